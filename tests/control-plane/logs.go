package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	// stampFormat is how container runtimes stamp a line: always nine digits.
	stampFormat = "2006-01-02T15:04:05.000000000Z07:00"
	// longest is where runtimes split a line into parts.
	longest = 16 << 10
	// feedPause is how often a log source is looked at for new lines.
	feedPause = 20 * time.Millisecond
)

// logFile is the log of one run of a container, written as a container
// runtime writes it: "<stamp> <stream> <F|P> <text>".
type logFile struct {
	path string

	mu       sync.Mutex
	file     *os.File // nil once the run is over
	size     int64
	maxSize  int64
	maxFiles int
	last     time.Time

	lines     int64
	rotations int
	changed   chan struct{} // closed at every change
}

func newLogFile(path string, l logPlan) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &logFile{
		path: path, file: f, maxSize: l.MaxSize, maxFiles: l.MaxFiles,
		changed: make(chan struct{}),
	}, nil
}

// append writes one line under the given stamp, or the time it is.
func (l *logFile) append(stream, text string, stamp time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("the container does not run")
	}
	if stamp.IsZero() {
		// A clock never stands still for two lines of one container.
		stamp = time.Now()
		if !stamp.After(l.last) {
			stamp = l.last.Add(time.Nanosecond)
		}
		l.last = stamp
	}
	var record bytes.Buffer
	at := stamp.UTC().Format(stampFormat)
	for len(text) > longest {
		fmt.Fprintf(&record, "%s %s P %s\n", at, stream, text[:longest])
		text = text[longest:]
	}
	fmt.Fprintf(&record, "%s %s F %s\n", at, stream, text)
	l.lines++
	return l.write(record.Bytes())
}

// raw writes a record that is already in the runtime's format.
func (l *logFile) raw(record string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("the container does not run")
	}
	l.lines++
	return l.write([]byte(record + "\n"))
}

func (l *logFile) write(record []byte) error {
	if l.maxSize > 0 && l.size > 0 && l.size+int64(len(record)) > l.maxSize {
		if err := l.rotateLocked(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(record)
	l.size += int64(n)
	l.wake()
	return err
}

func (l *logFile) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// appendAll writes a whole text under one stamp, for logs of an invented past.
func (l *logFile) appendAll(stream string, text []byte, stamp time.Time) {
	for line := range strings.Lines(string(text)) {
		_ = l.append(stream, strings.TrimSuffix(line, "\n"), stamp)
	}
}

// rotate does what the kubelet does: the file gets a new name, a fresh one
// takes its place, and what is in the old one is out of the API's reach.
func (l *logFile) rotate() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return fmt.Errorf("the container does not run")
	}
	return l.rotateLocked()
}

func (l *logFile) rotateLocked() error {
	l.rotations++
	old := fmt.Sprintf("%s.%s.%04d", l.path, time.Now().UTC().Format("20060102-150405"), l.rotations)
	if err := os.Rename(l.path, old); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.file.Close()
	l.file, l.size = f, 0
	l.wake()
	rotated := l.rotated()
	for len(rotated) > l.maxFiles-1 {
		_ = os.Remove(rotated[0])
		rotated = rotated[1:]
	}
	return nil
}

// rotated lists the files that were rotated away, oldest first.
func (l *logFile) rotated() []string {
	names, _ := filepath.Glob(l.path + ".*")
	sort.Strings(names)
	return names
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
		l.wake()
	}
}

func (l *logFile) remove() {
	l.close()
	for _, name := range append(l.rotated(), l.path) {
		_ = os.Remove(name)
	}
}

func (l *logFile) counts() (lines int64, rotations int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines, l.rotations
}

// feed writes the lines of the source into the log for as long as the run
// lasts, and calls drained when it has reached the source's end for the first
// time.
func (l *logFile) feed(ctx context.Context, source logPlan, drained func()) {
	begin := time.Now()
	given := 0
	// pace waits until the next line is due.
	pace := func() bool {
		given++
		if source.Rate <= 0 {
			return ctx.Err() == nil
		}
		due := begin.Add(time.Duration(float64(given) / source.Rate * float64(time.Second)))
		return sleep(ctx, time.Until(due))
	}
	for n := range source.Generate {
		if !pace() || l.append(source.Stream, fmt.Sprintf("%s%d", source.Prefix, n), time.Time{}) != nil {
			return
		}
	}
	if source.File == "" {
		drained()
		return
	}
	var f *os.File
	for f == nil {
		// The file may come later.
		opened, err := os.Open(source.File)
		if err == nil {
			f = opened
		} else if !sleep(ctx, feedPause) {
			return
		}
	}
	defer f.Close()
	reader := bufio.NewReaderSize(f, 64<<10)
	var line []byte
	told := false
	for {
		part, err := reader.ReadBytes('\n')
		line = append(line, part...)
		if err == io.EOF {
			if !told && len(line) == 0 {
				told = true
				drained()
			}
			if !sleep(ctx, feedPause) {
				return
			}
			continue
		}
		if err != nil {
			return
		}
		text := string(line[:len(line)-1])
		line = line[:0]
		if !pace() {
			return
		}
		if source.Format == "cri" {
			err = l.raw(text)
		} else {
			err = l.append(source.Stream, text, time.Time{})
		}
		if err != nil {
			return
		}
	}
}

// sleep waits, and tells whether there is still somebody to wait for.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
