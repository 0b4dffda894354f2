package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// execs keeps the book of commands run in containers, and the processes that
// are still there.
type execs struct {
	log *os.File

	mu      sync.Mutex
	next    int
	running map[int]*command
	total   int
}

// command is one line of the book.
type command struct {
	Number    int      `json:"number"`
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	Container string   `json:"container"`
	Argv      []string `json:"argv"`
	Start     string   `json:"start"`
	End       string   `json:"end,omitempty"`
	Exit      *int     `json:"exit,omitempty"`

	run     string
	process *os.Process
}

func newExecs(path string) (*execs, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &execs{log: f, running: map[int]*command{}}, nil
}

func (e *execs) begin(c *command) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	e.total++
	c.Number = e.next
	c.Start = time.Now().UTC().Format(stampFormat)
	e.running[c.Number] = c
	e.note(c)
}

func (e *execs) end(c *command, exit int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.End, c.Exit = time.Now().UTC().Format(stampFormat), &exit
	delete(e.running, c.Number)
	e.note(c)
}

func (e *execs) note(c *command) {
	raw, err := json.Marshal(c)
	if err == nil {
		_, _ = e.log.Write(append(raw, '\n'))
	}
}

// killRun kills what was run in a container that ends; killRun("") kills all.
func (e *execs) killRun(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.running {
		if id == "" || c.run == id {
			_ = syscall.Kill(-c.process.Pid, syscall.SIGKILL)
		}
	}
}

func (e *execs) report() map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := []*command{}
	for _, c := range e.running {
		now = append(now, c)
	}
	return map[string]any{"total": e.total, "running": now}
}

// ExecInContainer runs the command on this machine, with the pod's folder of
// stub tools first in its PATH. As with a real runtime, it goes on when the
// client goes away, and ends with its container.
func (k *kubelet) ExecInContainer(_ context.Context, name, _, container string, argv []string,
	in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	p := k.byName(name)
	if p == nil {
		return fmt.Errorf("pod %q is gone", name)
	}
	p.mu.Lock()
	c := p.find(container)
	var life *run
	if c != nil && c.stage == running {
		life = c.run
	}
	object := p.object
	p.mu.Unlock()
	if life == nil {
		return fmt.Errorf("container %q does not run", container)
	}
	env := environment(object, c.spec)
	tool, err := lookUp(argv, env)
	if err != nil {
		return err
	}
	cmd := exec.Command(tool, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env = env
	cmd.Dir = k.p.dir
	cmd.Stdout, cmd.Stderr = drain(out), drain(errs)
	var stdin io.WriteCloser
	if in != nil {
		if stdin, err = cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := k.p.l.start(cmd); err != nil {
		return err
	}
	entry := &command{
		Namespace: object.Namespace, Pod: object.Name, Container: c.spec.Name,
		Argv: argv, run: life.id, process: cmd.Process,
	}
	k.execs.begin(entry)
	if stdin != nil {
		go func() {
			_, _ = io.Copy(stdin, in)
			stdin.Close()
		}()
	}
	err = cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		code = 128 + int(s.Signal())
	}
	k.execs.end(entry, code)
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		return utilexec.CodeExitError{Err: err, Code: code}
	case err != nil:
		return err
	}
	return nil
}

// drain gives a command a writer that never fails: a client that went away
// does not stop the process.
func drain(w io.Writer) io.Writer {
	if w == nil {
		return nil
	}
	return &patient{w: w}
}

type patient struct {
	w    io.Writer
	gone bool
}

func (p *patient) Write(b []byte) (int, error) {
	if !p.gone {
		if _, err := p.w.Write(b); err != nil {
			p.gone = true
		}
	}
	return len(b), nil
}

// lookUp finds the tool in the command's own PATH.
func lookUp(argv, env []string) (string, error) {
	if len(argv) == 0 {
		return "", fmt.Errorf("no command was given")
	}
	missing := fmt.Errorf("OCI runtime exec failed: exec failed: unable to start container process: exec: %q: executable file not found in $PATH", argv[0])
	usable := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
	}
	if strings.Contains(argv[0], "/") {
		if !usable(argv[0]) {
			return "", missing
		}
		return argv[0], nil
	}
	for _, pair := range env {
		path, found := strings.CutPrefix(pair, "PATH=")
		if !found {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			if tool := filepath.Join(dir, argv[0]); usable(tool) {
				return tool, nil
			}
		}
	}
	return "", missing
}

// environment is what the container's processes see: its own variables, those
// it takes from the pod's fields, and a PATH with the stub tools.
func environment(pod *v1.Pod, c *v1.Container) []string {
	env := []string{"HOME=/", "HOSTNAME=" + pod.Name}
	for _, e := range c.Env {
		value := e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			value = field(pod, e.ValueFrom.FieldRef.FieldPath)
		}
		if e.Name != "PATH" {
			env = append(env, e.Name+"="+value)
		}
	}
	env = append(env, "CPLANE_POD="+pod.Name, "CPLANE_NAMESPACE="+pod.Namespace,
		"CPLANE_CONTAINER="+c.Name, "CPLANE_NODE="+pod.Spec.NodeName)
	dirs := []string{}
	if dir := pod.Annotations[annotationExec]; dir != "" {
		dirs = append(dirs, fill(dir, pod, c.Name, 0))
	}
	if pod.Annotations[annotationOnly] != "true" {
		dirs = append(dirs, os.Getenv("PATH"))
	}
	return append(env, "PATH="+strings.Join(dirs, ":"))
}

func field(pod *v1.Pod, path string) string {
	key := func(prefix string) (string, bool) {
		rest, found := strings.CutPrefix(path, prefix+"['")
		return strings.TrimSuffix(rest, "']"), found
	}
	if name, found := key("metadata.labels"); found {
		return pod.Labels[name]
	}
	if name, found := key("metadata.annotations"); found {
		return pod.Annotations[name]
	}
	switch path {
	case "metadata.name":
		return pod.Name
	case "metadata.namespace":
		return pod.Namespace
	case "metadata.uid":
		return string(pod.UID)
	case "spec.nodeName":
		return pod.Spec.NodeName
	case "status.podIP":
		return pod.Status.PodIP
	case "status.hostIP":
		return pod.Status.HostIP
	}
	return ""
}

// AttachContainer hands out what the container writes from now on.
func (k *kubelet) AttachContainer(ctx context.Context, name, _, container string,
	_ io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	p := k.byName(name)
	if p == nil {
		return fmt.Errorf("pod %q is gone", name)
	}
	life := p.current(container)
	if life == nil {
		return fmt.Errorf("container %q does not run", container)
	}
	none := int64(0)
	return life.poll(ctx, reading{follow: true, tail: &none}, writer(out), writer(errs))
}

// writer keeps a nil stream nil.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// PortForward joins the stream to a port of this machine: the one that
// cplane.test/ports gives for the pod's port, or the same one.
func (k *kubelet) PortForward(_ context.Context, name, _ string, port int32, stream io.ReadWriteCloser) error {
	p := k.byName(name)
	if p == nil {
		return fmt.Errorf("pod %q is gone", name)
	}
	p.mu.Lock()
	table := p.object.Annotations[annotationPorts]
	p.mu.Unlock()
	target := strconv.Itoa(int(port))
	if local, found := mapped(table, target); found {
		target = local
	}
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", target))
	if err != nil {
		return fmt.Errorf("failed to connect to localhost:%d inside pod %q: %w", port, name, err)
	}
	defer conn.Close()
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(conn, stream)
		_ = conn.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(stream, conn)
		done <- struct{}{}
		done <- struct{}{}
	}()
	<-done
	<-done
	return nil
}
