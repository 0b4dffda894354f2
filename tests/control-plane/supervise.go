package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launcher starts child processes from one thread which never ends. A child
// asks to be killed when its parent dies, and by "parent" the kernel means
// the thread that forked it.
type launcher struct{ requests chan launch }

type launch struct {
	cmd  *exec.Cmd
	done chan error
}

func newLauncher() *launcher {
	l := &launcher{requests: make(chan launch)}
	go func() {
		runtime.LockOSThread()
		for r := range l.requests {
			r.done <- r.cmd.Start()
		}
	}()
	return l
}

// start runs cmd in a process group of its own, killed when we die.
func (l *launcher) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error)
	l.requests <- launch{cmd, done}
	return <-done
}

// reaper starts a shell which waits until we are gone, however that happens,
// and then removes our folder.
func (l *launcher) reaper(dir string) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	const script = `cat >/dev/null; n=0
while [ -e "$1" ] && [ $n -lt 50 ]; do rm -rf -- "$1" 2>/dev/null; [ -e "$1" ] && sleep 0.1; n=$((n+1)); done`
	cmd := exec.Command("/bin/sh", "-c", script, "reaper", dir)
	cmd.Stdin = reader
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	reader.Close()
	// The write end stays open for as long as this process lives.
	pipes = append(pipes, writer)
	return nil
}

// pipes keeps files from being closed by the garbage collector.
var pipes []*os.File

// component is one of the four servers, run as a child of this process.
type component struct {
	name string
	args []string
	log  string
	l    *launcher

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{}
}

func (c *component) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil {
		return fmt.Errorf("%s is already running", c.name)
	}
	if err := os.MkdirAll(filepath.Dir(c.log), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, append([]string{c.name}, c.args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = filepath.Dir(c.log)
	if err := c.l.start(cmd); err != nil {
		return err
	}
	gone := make(chan struct{})
	c.cmd, c.gone = cmd, gone
	go func() {
		// How it ended stands in its log.
		_ = cmd.Wait()
		c.mu.Lock()
		if c.cmd == cmd {
			c.cmd = nil
		}
		c.mu.Unlock()
		close(gone)
	}()
	return nil
}

// stop ends the component: at once, or as the component does it when asked.
func (c *component) stop(graceful bool) error {
	sig := syscall.SIGKILL
	if graceful {
		sig = syscall.SIGTERM
	}
	c.mu.Lock()
	cmd, gone := c.cmd, c.gone
	c.mu.Unlock()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(sig); err != nil && err != os.ErrProcessDone {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-time.After(70 * time.Second):
		return fmt.Errorf("%s does not end", c.name)
	}
}

func (c *component) signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return fmt.Errorf("%s is not running", c.name)
	}
	return c.cmd.Process.Signal(sig)
}

func (c *component) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// tail is the end of the component's log, for messages about a failed start.
func (c *component) tail() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 2000 {
		_, _ = f.Seek(-2000, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}

// residentKiB reads a process's resident memory and its peak.
func residentKiB(pid int) (now, peak int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "VmRSS:":
			now, _ = strconv.Atoi(fields[1])
		case "VmHWM:":
			peak, _ = strconv.Atoi(fields[1])
		}
	}
	return now, peak
}

// freePort finds a port below the range from which the kernel takes the ports
// of outgoing connections, so that none of those is in the way when a
// component binds it again after a restart. Control planes that start side by
// side keep out of each other's way by holding a name in the abstract socket
// namespace for each port: it goes when we go.
func freePort() (int, error) {
	for range 500 {
		port := 18000 + rand.IntN(14000)
		hold, err := net.Listen("unix", fmt.Sprintf("@cplane-port-%d", port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			hold.Close()
			continue
		}
		l.Close()
		held = append(held, hold)
		return port, nil
	}
	return 0, fmt.Errorf("no free port on loopback")
}

// held keeps the names of our ports from being closed by the garbage collector.
var held []net.Listener
