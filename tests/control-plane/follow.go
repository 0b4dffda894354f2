package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	crilogs "k8s.io/cri-client/pkg/logs"
)

// reading is a request for a log.
type reading struct {
	follow, stamps bool
	tail, limit    *int64
	since          time.Time
}

// read answers a request with the kubelet's own reader. It takes one inotify
// instance for each log that is followed, of which a system often allows 128
// to a user; --log-reader=poll reads without.
func (k *kubelet) read(ctx context.Context, r *run, q reading, stdout, stderr io.Writer) error {
	if k.p.logReader == "poll" {
		return r.poll(ctx, q, stdout, stderr)
	}
	return crilogs.ReadLogs(ctx, r.log.path, r.id, &crilogs.LogOptions{
		TailLines:  q.tail,
		LimitBytes: q.limit,
		Since:      q.since,
		Follow:     q.follow,
		Timestamp:  q.stamps,
	}, runtimeService{k: k}, stdout, stderr)
}

// runtimeService answers the one question the kubelet's log reader has for
// the container runtime: does the container run?
type runtimeService struct {
	internalapi.RuntimeService
	k *kubelet
}

func (s runtimeService) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	state := runtimeapi.ContainerState_CONTAINER_EXITED
	if r := s.k.recall(id); r != nil && r.running.Load() {
		state = runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: id, State: state}}, nil
}

// poll reads a log as the kubelet's reader does, but is told of changes by
// the writer. It reads a file to its end before it goes on with the one that
// took its place.
func (r *run) poll(ctx context.Context, q reading, stdout, stderr io.Writer) error {
	out := &recordWriter{reading: q, stdout: stdout, stderr: stderr, fresh: true}
	if q.limit != nil {
		out.left = *q.limit
	}
	r.log.mu.Lock()
	f, err := os.Open(r.log.path)
	rotations, changed := r.log.rotations, r.log.changed
	r.log.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	var rest []byte
	if q.tail != nil {
		all, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		rest = lastLines(all, *q.tail)
	}
	buffer := make([]byte, 64<<10)
	alive := true
	for {
		for {
			n, err := f.Read(buffer)
			rest = append(rest, buffer[:n]...)
			for {
				end := bytes.IndexByte(rest, '\n')
				if end < 0 {
					break
				}
				more, err := out.record(rest[:end])
				if err != nil || !more {
					return err
				}
				rest = rest[end+1:]
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		r.log.mu.Lock()
		now, next := r.log.rotations, r.log.changed
		var fresh *os.File
		if now != rotations {
			fresh, err = os.Open(r.log.path)
		}
		r.log.mu.Unlock()
		if err != nil {
			return err
		}
		if fresh != nil {
			// What was written between our last read and the rotation.
			late, err := io.ReadAll(f)
			if err != nil {
				fresh.Close()
				return err
			}
			rest = append(rest, late...)
			f.Close()
			f, rotations, changed = fresh, now, next
			continue
		}
		if next != changed {
			changed = next
			continue
		}
		if !q.follow || !alive {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(time.Second):
		}
		alive = r.running.Load()
	}
}

// recordWriter turns records of the log file into what the API answers.
type recordWriter struct {
	reading
	stdout, stderr io.Writer
	left           int64
	fresh          bool // the next record begins a line
}

// record writes one record and tells whether there may be more.
func (w *recordWriter) record(raw []byte) (bool, error) {
	parts := bytes.SplitN(raw, []byte(" "), 4)
	if len(parts) < 4 {
		return true, nil
	}
	stamp, err := time.Parse(time.RFC3339Nano, string(parts[0]))
	if err != nil || stamp.Before(w.since) {
		return true, nil
	}
	var line []byte
	if w.stamps && w.fresh {
		line = append(line, stamp.Format(stampFormat)+" "...)
	}
	line = append(line, parts[3]...)
	w.fresh = string(parts[2]) != "P"
	if w.fresh {
		line = append(line, '\n')
	}
	more := true
	if w.limit != nil {
		if int64(len(line)) >= w.left {
			line, more = line[:w.left], false
		}
		w.left -= int64(len(line))
	}
	to := w.stdout
	if string(parts[1]) == "stderr" {
		to = w.stderr
	}
	if to != nil {
		if _, err := to.Write(line); err != nil {
			return false, err
		}
	}
	return more, nil
}

// lastLines cuts a text to its last n lines.
func lastLines(text []byte, n int64) []byte {
	at := len(text)
	if at > 0 && text[at-1] == '\n' {
		at--
	}
	if n <= 0 {
		return nil
	}
	for ; n > 0; n-- {
		at = bytes.LastIndexByte(text[:max(at, 0)], '\n')
		if at < 0 {
			return text
		}
	}
	return text[at+1:]
}
