package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

// parse reads the flags of "up".
func parse(args []string) (options, error) {
	var o options
	var users, extra string
	var noStdin bool
	f := flag.NewFlagSet("cplane up", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", "", "folder for everything, made now and removed at the end (default: a fresh one in the temporary folder)")
	f.IntVar(&o.nodes, "nodes", 4, "number of nodes")
	f.IntVar(&o.gpus, "gpus", 8, "nvidia.com/gpu on each node")
	f.StringVar(&users, "users", "", "more users with a token, separated by commas")
	f.BoolVar(&o.crds, "crds", true, "install the custom resource definitions")
	f.StringVar(&o.logReader, "log-reader", "kubelet", "kubelet: the kubelet's own reader, one inotify instance for each log followed; poll: one without")
	f.BoolVar(&o.keep, "keep", false, "leave the folder when the control plane ends")
	f.StringVar(&extra, "apiserver-flags", "", "more flags for kube-apiserver, separated by spaces")
	f.BoolVar(&noStdin, "no-stdin", false, "neither obey stdin nor end with it")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.stdin = !noStdin
	for name := range strings.SplitSeq(users, ",") {
		if name != "" {
			o.users = append(o.users, name)
		}
	}
	o.apiserver = strings.Fields(extra)
	if o.logReader != "kubelet" && o.logReader != "poll" {
		return o, fmt.Errorf("no log reader is called %q", o.logReader)
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "cplane-")
		o.dir = dir
		return o, err
	}
	return o, os.Mkdir(o.dir, 0o700)
}

// up starts a control plane, obeys commands, and ends when stdin does, on a
// signal, or when whoever started it is gone.
func up(args []string) int {
	o, err := parse(args)
	if err == flag.ErrHelp {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cplane:", err)
		return 2
	}
	quiet(o.dir)
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer cancel()
	go orphaned(ctx, cancel)

	// Stdin is read from the start on: its end counts while we start up, too.
	lines := make(chan string)
	if o.stdin {
		go func() {
			defer cancel()
			defer close(lines)
			reader := bufio.NewReader(os.Stdin)
			for {
				line, err := reader.ReadString('\n')
				if strings.TrimSpace(line) != "" {
					select {
					case lines <- line:
					case <-ctx.Done():
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}

	p, err := startPlane(ctx, o)
	defer p.stop()
	if err != nil {
		if ctx.Err() != nil {
			return 0
		}
		fmt.Fprintln(os.Stderr, "cplane:", err)
		return 1
	}
	c := &control{p: p, ctx: ctx, quit: cancel}
	address, err := c.listen()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cplane:", err)
		return 1
	}
	say(p.report(address))
	for {
		select {
		case <-ctx.Done():
			return 0
		case line, open := <-lines:
			if !open {
				return 0
			}
			say(c.line(line))
		}
	}
}

var saying sync.Mutex

// say writes one line of JSON to stdout.
func say(what map[string]any) {
	saying.Lock()
	defer saying.Unlock()
	raw, err := json.Marshal(what)
	if err != nil {
		raw = []byte(`{"ok":false}`)
	}
	_, _ = os.Stdout.Write(append(raw, '\n'))
}

// orphaned ends us when our parent has died. The kernel's own signal for it
// would come when the parent's thread ends, and tests run in threads.
func orphaned(ctx context.Context, cancel func()) {
	parent := os.Getppid()
	for sleep(ctx, 250*time.Millisecond) {
		if os.Getppid() != parent {
			cancel()
			return
		}
	}
}

// quiet sends what the client libraries log to a file of its own.
func quiet(dir string) {
	f := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(f)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := f.Set(name, value); err != nil {
			panic(err)
		}
	}
	file, err := os.OpenFile(filepath.Join(dir, "cplane.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		klog.SetOutput(io.Discard)
		return
	}
	klog.SetOutput(file)
}
