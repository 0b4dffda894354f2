package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	apps "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
)

// tester drives a control plane from outside, as the Rust tests do.
type tester struct {
	ctx    context.Context
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	up     struct {
		Dir        string            `json:"dir"`
		Control    string            `json:"control"`
		Kubeconfig map[string]string `json:"kubeconfig"`
		Pids       map[string]int    `json:"pids"`
		AuditLog   string            `json:"audit_log"`
		ExecLog    string            `json:"exec_log"`
		StartupMS  int               `json:"startup_ms"`
		Version    string            `json:"version"`
	}
	admin  kubernetes.Interface
	config *rest.Config
	pods   int
}

// selftest starts a control plane and tries what the tests rely on.
func selftest(args []string) int {
	t := &tester{}
	f := flag.NewFlagSet("cplane selftest", flag.ContinueOnError)
	only := f.String("run", "", "only the steps whose names contain this")
	reader := f.String("log-reader", "kubelet", "as for up")
	f.IntVar(&t.pods, "pods", 300, "pods of the step \"many pods\"")
	if err := f.Parse(args); err != nil {
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	t.ctx = ctx
	if err := t.start("--log-reader=" + *reader); err != nil {
		fmt.Println("start:", err)
		return 1
	}
	fmt.Printf("ok   start %s (%d ms)\n", t.up.Version, t.up.StartupMS)
	failed := 0
	for _, s := range []struct {
		name string
		try  func() error
	}{
		{"stateful set on GPUs", t.statefulSet},
		{"pending with a reason", t.pending},
		{"states as the server's table shows them", t.table},
		{"crash loop that moves", t.crashLoop},
		{"jobs finish", t.finish},
		{"logs", t.logs},
		{"exec", t.exec},
		{"port forwarding", t.forward},
		{"custom kinds", t.custom},
		{"rights and expired users", t.rights},
		{"connections cut", t.cut},
		{"API server restart and compaction", t.restart},
		{"silent node", t.silentNode},
		{"many pods", t.many},
		{"audit log", t.audit},
	} {
		if !strings.Contains(s.name, *only) {
			continue
		}
		began := time.Now()
		if err := s.try(); err != nil {
			failed++
			fmt.Printf("FAIL %s: %v\n", s.name, err)
			continue
		}
		fmt.Printf("ok   %s (%d ms)\n", s.name, time.Since(began).Milliseconds())
	}
	if answer, err := t.command(map[string]any{"cmd": "stats"}); err == nil {
		raw, _ := json.Marshal(answer["processes"])
		fmt.Println("memory:", string(raw))
	}
	if err := t.end(); err != nil {
		failed++
		fmt.Println("FAIL end:", err)
	} else {
		fmt.Println("ok   nothing is left behind")
	}
	if err := t.killed(); err != nil {
		failed++
		fmt.Println("FAIL killed:", err)
	} else {
		fmt.Println("ok   nothing is left behind when killed")
	}
	return min(failed, 1)
}

func (t *tester) start(flags ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	t.cmd = exec.Command(self, append([]string{"up"}, flags...)...)
	t.cmd.Stderr = os.Stderr
	if t.stdin, err = t.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	t.stdout = bufio.NewReader(out)
	if err := t.cmd.Start(); err != nil {
		return err
	}
	line, err := t.stdout.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &t.up); err != nil {
		return err
	}
	t.config, t.admin, err = t.user("admin")
	return err
}

func (t *tester) user(name string) (*rest.Config, kubernetes.Interface, error) {
	return clientFor(t.up.Kubeconfig[name])
}

func clientFor(file string) (*rest.Config, kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, nil, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	return config, client, err
}

// command gives a command on stdin and reads the answer.
func (t *tester) command(what map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(what)
	if err != nil {
		return nil, err
	}
	if _, err := t.stdin.Write(append(raw, '\n')); err != nil {
		return nil, err
	}
	line, err := t.stdout.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	if err := json.Unmarshal(line, &answer); err != nil {
		return nil, err
	}
	if answer["ok"] != true {
		return nil, fmt.Errorf("%s: %v", raw, answer["error"])
	}
	return answer, nil
}

// eventually tries until it succeeds.
func (t *tester) eventually(try func() error) error {
	end := time.Now().Add(40 * time.Second)
	for {
		err := try()
		if err == nil || time.Now().After(end) {
			return err
		}
		if !sleep(t.ctx, 30*time.Millisecond) {
			return err
		}
	}
}

func (t *tester) namespace(name string) error {
	_, err := t.admin.CoreV1().Namespaces().Create(t.ctx, &v1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	return t.eventually(func() error {
		_, err := t.admin.CoreV1().ServiceAccounts(name).Get(t.ctx, "default", metav1.GetOptions{})
		return err
	})
}

func podOf(name string, gpus int64, annotations map[string]string, containers ...string) *v1.Pod {
	if len(containers) == 0 {
		containers = []string{"vllm"}
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, v1.Container{Name: c, Image: "vllm/vllm-openai:test"})
	}
	if gpus > 0 {
		pod.Spec.Containers[0].Resources.Limits = v1.ResourceList{"nvidia.com/gpu": *resource.NewQuantity(gpus, resource.DecimalSI)}
	}
	return pod
}

func (t *tester) create(namespace string, pods ...*v1.Pod) error {
	for _, pod := range pods {
		if _, err := t.admin.CoreV1().Pods(namespace).Create(t.ctx, pod, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (t *tester) running(namespace, name string) error {
	return t.eventually(func() error {
		pod, err := t.admin.CoreV1().Pods(namespace).Get(t.ctx, name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != v1.PodRunning {
			err = fmt.Errorf("%s is %s", name, pod.Status.Phase)
		}
		return err
	})
}

func (t *tester) statefulSet() error {
	if err := t.namespace("sts"); err != nil {
		return err
	}
	replicas := int32(2)
	labels := map[string]string{"app": "vllm"}
	pod := podOf("", 8, nil)
	pod.Labels = labels
	set := &apps.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "vllm"},
		Spec: apps.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "vllm",
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: v1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec},
		},
	}
	if _, err := t.admin.AppsV1().StatefulSets("sts").Create(t.ctx, set, metav1.CreateOptions{}); err != nil {
		return err
	}
	return t.eventually(func() error {
		set, err := t.admin.AppsV1().StatefulSets("sts").Get(t.ctx, "vllm", metav1.GetOptions{})
		if err == nil && set.Status.ReadyReplicas != 2 {
			err = fmt.Errorf("%d of 2 are ready", set.Status.ReadyReplicas)
		}
		return err
	})
}

func (t *tester) pending() error {
	if err := t.namespace("pending"); err != nil {
		return err
	}
	if err := t.create("pending", podOf("greedy", 16, nil)); err != nil {
		return err
	}
	return t.eventually(func() error {
		events, err := t.admin.CoreV1().Events("pending").List(t.ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == "FailedScheduling" && strings.Contains(e.Message, "Insufficient nvidia.com/gpu") {
				return nil
			}
		}
		return fmt.Errorf("no event tells why, in %d events", len(events.Items))
	})
}

// shape is a pod for a canned state and the cells the API server prints.
type shape struct {
	phase  string
	status string
	ready  string
	count  string // RESTARTS, without the age
	policy v1.RestartPolicy
	names  []string
	inits  int
	side   bool
}

var shapes = []shape{
	{phase: "running", status: "Running", ready: "1/1"},
	{phase: "not-ready", status: "Running", ready: "0/1"},
	{phase: "restarted", status: "Running", ready: "1/1", count: "3"},
	{phase: "unready-all", status: "Running", ready: "0/2", names: []string{"a", "b"}},
	{phase: "creating", status: "ContainerCreating"},
	{phase: "image-pull", status: "ErrImagePull"},
	{phase: "bad-image", status: "InvalidImageName"},
	{phase: "never-pulled", status: "ErrImageNeverPull"},
	{phase: "image-pull-backoff", status: "ImagePullBackOff"},
	{phase: "config-error", status: "CreateContainerConfigError"},
	{phase: "create-error", status: "CreateContainerError"},
	{phase: "run-error", status: "RunContainerError", count: "2"},
	{phase: "crash-loop", status: "CrashLoopBackOff", count: "5"},
	{phase: "oom-loop", status: "CrashLoopBackOff", count: "7"},
	{phase: "complete", status: "Completed", policy: v1.RestartPolicyNever},
	{phase: "error", status: "Error", policy: v1.RestartPolicyNever},
	{phase: "oom", status: "OOMKilled"},
	{phase: "start-error", status: "StartError"},
	{phase: "cannot-run", status: "ContainerCannotRun"},
	{phase: "exit-code", status: "ExitCode:3"},
	{phase: "signal", status: "Signal:9"},
	{phase: "lost-container", status: "ContainerStatusUnknown", policy: v1.RestartPolicyNever},
	{phase: "one-complete", status: "NotReady", ready: "1/2", names: []string{"a", "b"}},
	{phase: "one-failed", status: "Error", ready: "1/2", names: []string{"a", "b"}},
	{phase: "last-failed", status: "Error", ready: "1/2", names: []string{"a", "b"}},
	{phase: "complete-and-error", status: "Error", ready: "0/2", names: []string{"a", "b"}, policy: v1.RestartPolicyNever},
	{phase: "init-wait", status: "Init:1/2", inits: 2},
	{phase: "init-crash-loop", status: "Init:CrashLoopBackOff", count: "4", inits: 1},
	{phase: "init-error", status: "Init:Error", inits: 1},
	{phase: "init-exit-code", status: "Init:ExitCode:3", inits: 1},
	{phase: "init-signal", status: "Init:Signal:9", inits: 1},
	{phase: "init-oom", status: "Init:OOMKilled", inits: 1},
	{phase: "init-image-pull", status: "Init:ImagePullBackOff", inits: 1},
	{phase: "init-initializing", status: "Init:0/1", inits: 1},
	{phase: "sidecar-waiting", status: "Init:0/1", ready: "0/2", inits: 1, side: true},
	{phase: "evicted", status: "Evicted"},
	{phase: "out-of-gpu", status: "OutOfnvidia.com/gpu"},
	{phase: "unexpected-admission", status: "UnexpectedAdmissionError"},
	{phase: "topology-error", status: "TopologyAffinityError"},
	{phase: "node-lost", status: "NodeLost", ready: "1/1"},
	{phase: "node-shutdown", status: "NodeShutdown"},
	{phase: "preempting", status: "Preempting"},
	{phase: "deadline", status: "DeadlineExceeded"},
	{phase: "unknown", status: "Unknown"},
	{phase: "no-status", status: "Pending"},
	{phase: "stuck-terminating", status: "Terminating", ready: "1/1"},
}

func (t *tester) table() error {
	if err := t.namespace("table"); err != nil {
		return err
	}
	covered := map[string]bool{}
	for _, s := range shapes {
		covered[s.phase] = true
		pod := podOf(s.phase, 0, map[string]string{annotationPhase: s.phase}, s.names...)
		pod.Spec.RestartPolicy = s.policy
		for i := range s.inits {
			c := v1.Container{Name: fmt.Sprintf("init-%d", i), Image: "init"}
			if s.side {
				always := v1.ContainerRestartPolicyAlways
				c.RestartPolicy = &always
			}
			pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
		}
		if err := t.create("table", pod); err != nil {
			return fmt.Errorf("%s: %w", s.phase, err)
		}
	}
	for name := range phases {
		if !covered[name] {
			return fmt.Errorf("no shape tries the phase %q", name)
		}
	}
	if err := t.running("table", "stuck-terminating"); err != nil {
		return err
	}
	if err := t.admin.CoreV1().Pods("table").Delete(t.ctx, "stuck-terminating", metav1.DeleteOptions{}); err != nil {
		return err
	}
	return t.eventually(func() error {
		raw, err := t.admin.CoreV1().RESTClient().Get().Namespace("table").Resource("pods").
			SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(t.ctx)
		if err != nil {
			return err
		}
		var table metav1.Table
		if err := json.Unmarshal(raw, &table); err != nil {
			return err
		}
		cells := map[string][]any{}
		for _, row := range table.Rows {
			cells[fmt.Sprint(row.Cells[0])] = row.Cells
		}
		var wrong []string
		for _, s := range shapes {
			ready, count := s.ready, s.count
			if ready == "" {
				ready = "0/1"
			}
			if count == "" {
				count = "0"
			}
			row := cells[s.phase]
			if row == nil {
				return fmt.Errorf("no row for %s", s.phase)
			}
			restarts, _, _ := strings.Cut(fmt.Sprint(row[3]), " ")
			if row[1] != ready || row[2] != s.status || restarts != count {
				wrong = append(wrong, fmt.Sprintf("%s: %v", s.phase, row))
			}
		}
		if wrong != nil {
			return fmt.Errorf("%s", strings.Join(wrong, "; "))
		}
		return nil
	})
}

func (t *tester) crashLoop() error {
	if err := t.namespace("crash"); err != nil {
		return err
	}
	plan := `{"exit":1,"after":"100ms","exits":3,"backoff":"300ms"}`
	if err := t.create("crash", podOf("twice", 0, map[string]string{annotationPlan: plan})); err != nil {
		return err
	}
	loop := `{"exit":134,"after":"100ms"}`
	if err := t.create("crash", podOf("loop", 0, map[string]string{annotationPlan: loop})); err != nil {
		return err
	}
	return t.eventually(func() error {
		pod, err := t.admin.CoreV1().Pods("crash").Get(t.ctx, "twice", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(pod.Status.ContainerStatuses) == 0 {
			return errors.New("no status yet")
		}
		if s := pod.Status.ContainerStatuses[0]; s.RestartCount != 3 || s.State.Running == nil {
			return fmt.Errorf("restarted %d times", s.RestartCount)
		}
		pod, err = t.admin.CoreV1().Pods("crash").Get(t.ctx, "loop", metav1.GetOptions{})
		if err != nil {
			return err
		}
		s := pod.Status.ContainerStatuses[0]
		if s.State.Waiting == nil || s.State.Waiting.Reason != "CrashLoopBackOff" || s.LastTerminationState.Terminated.ExitCode != 134 {
			return fmt.Errorf("loop is %v", s.State)
		}
		return nil
	})
}

// finish checks that pods end as their restart policies say.
func (t *tester) finish() error {
	if err := t.namespace("finish"); err != nil {
		return err
	}
	for name, want := range map[string]v1.PodPhase{"good": v1.PodSucceeded, "bad": v1.PodFailed} {
		plan := `{"exit":0,"after":"50ms"}`
		if name == "bad" {
			plan = `{"exit":7,"after":"50ms"}`
		}
		pod := podOf(name, 1, map[string]string{annotationPlan: plan})
		pod.Spec.RestartPolicy = v1.RestartPolicyNever
		if err := t.create("finish", pod); err != nil {
			return err
		}
		err := t.eventually(func() error {
			pod, err := t.admin.CoreV1().Pods("finish").Get(t.ctx, name, metav1.GetOptions{})
			if err == nil && pod.Status.Phase != want {
				err = fmt.Errorf("%s is %s", name, pod.Status.Phase)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// followed collects what a log stream brings.
type followed struct {
	mu    sync.Mutex
	lines []string
	done  bool
}

func (f *followed) has(want ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range want {
		if !slices.Contains(f.lines, w) {
			return fmt.Errorf("%q has not come, but %d lines", w, len(f.lines))
		}
	}
	return nil
}

func (f *followed) over() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		return errors.New("the stream goes on")
	}
	return nil
}

func (t *tester) follow(namespace, name string, o *v1.PodLogOptions) (*followed, error) {
	stream, err := t.admin.CoreV1().Pods(namespace).GetLogs(name, o).Stream(t.ctx)
	if err != nil {
		return nil, err
	}
	f := &followed{}
	go func() {
		defer stream.Close()
		scanner := bufio.NewScanner(stream)
		for scanner.Scan() {
			f.mu.Lock()
			f.lines = append(f.lines, scanner.Text())
			f.mu.Unlock()
		}
		f.mu.Lock()
		f.done = true
		f.mu.Unlock()
	}()
	return f, nil
}

func (t *tester) logs() error {
	if err := t.namespace("logs"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cplane-selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "talker.log")
	if err := os.WriteFile(file, []byte("one\ntwo\n"), 0o600); err != nil {
		return err
	}
	annotations := map[string]string{annotationFile: filepath.Join(dir, "{pod}.log"), annotationPlan: `{"backoff":"0s"}`}
	if err := t.create("logs", podOf("talker", 0, annotations)); err != nil {
		return err
	}
	if err := t.running("logs", "talker"); err != nil {
		return err
	}
	f, err := t.follow("logs", "talker", &v1.PodLogOptions{Follow: true})
	if err != nil {
		return err
	}
	about := func(cmd string, more map[string]any) error {
		what := map[string]any{"cmd": cmd, "namespace": "logs", "pod": "talker"}
		for k, v := range more {
			what[k] = v
		}
		_, err := t.command(what)
		return err
	}
	steps := []func() error{
		func() error { return t.eventually(func() error { return f.has("one", "two") }) },
		func() error { return about("log-append", map[string]any{"lines": []string{"three"}}) },
		func() error { return about("log-rotate", nil) },
		func() error { return about("log-append", map[string]any{"lines": []string{"four"}}) },
		func() error { return t.eventually(func() error { return f.has("three", "four") }) },
		func() error {
			// What was rotated away is out of reach.
			raw, err := t.admin.CoreV1().Pods("logs").GetLogs("talker", &v1.PodLogOptions{Timestamps: true}).DoRaw(t.ctx)
			if err == nil && (strings.Count(string(raw), "\n") != 1 || !strings.HasSuffix(string(raw), "Z four\n")) {
				err = fmt.Errorf("after the rotation: %q", raw)
			}
			return err
		},
		func() error { return about("container-exit", map[string]any{"exit": 1}) },
		func() error { return t.eventually(f.over) },
		func() error {
			return t.eventually(func() error {
				raw, err := t.admin.CoreV1().Pods("logs").GetLogs("talker", &v1.PodLogOptions{Previous: true}).DoRaw(t.ctx)
				if err == nil && string(raw) != "four\n" {
					err = fmt.Errorf("previous: %q", raw)
				}
				return err
			})
		},
		func() error {
			return t.eventually(func() error {
				tail := int64(1)
				raw, err := t.admin.CoreV1().Pods("logs").GetLogs("talker", &v1.PodLogOptions{TailLines: &tail}).DoRaw(t.ctx)
				if err == nil && string(raw) != "two\n" {
					err = fmt.Errorf("tail: %q", raw)
				}
				return err
			})
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return t.rotations()
}

// rotations follows the logs of 64 pods which are rotated while they are
// written, and counts.
func (t *tester) rotations() error {
	const pods, lines = 64, 1000
	annotations := map[string]string{
		annotationLog:  fmt.Sprintf(`{"generate":%d,"rate":200,"prefix":"{pod} ","maxSize":16384}`, lines),
		annotationPlan: `{"waiting":"ContainerCreating","waitFor":"3s","exit":0,"afterLog":true,"after":"500ms","hold":true}`,
	}
	streams := make([]*followed, pods)
	name := func(i int) string { return fmt.Sprintf("writer-%d", i) }
	for i := range pods {
		if err := t.create("logs", podOf(name(i), 0, annotations)); err != nil {
			return err
		}
	}
	for i := range pods {
		err := t.eventually(func() error {
			// The log of a pod without a node is an empty answer, not an error.
			pod, err := t.admin.CoreV1().Pods("logs").Get(t.ctx, name(i), metav1.GetOptions{})
			if err == nil && pod.Spec.NodeName == "" {
				err = errors.New("the writer has no node")
			}
			if err == nil {
				streams[i], err = t.follow("logs", name(i), &v1.PodLogOptions{Follow: true})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for i, f := range streams {
		if err := t.eventually(f.over); err != nil {
			return fmt.Errorf("%s: %w", name(i), err)
		}
		for n, line := range f.lines {
			if want := fmt.Sprintf("%s %d", name(i), n); line != want {
				return fmt.Errorf("line %d of %s is %q", n, name(i), line)
			}
		}
		if len(f.lines) != lines {
			return fmt.Errorf("%d of %d lines of %s through rotations", len(f.lines), lines, name(i))
		}
	}
	return nil
}

func (t *tester) exec() error {
	if err := t.namespace("exec"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cplane-selftest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	script := "#!/bin/sh\necho \"GPU of $CPLANE_POD $RANK\"\necho warning >&2\nexit 9\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o700); err != nil {
		return err
	}
	pod := podOf("shell", 0, map[string]string{annotationExec: dir})
	pod.Spec.Containers[0].Env = []v1.EnvVar{{Name: "RANK", Value: "3"}}
	bare := podOf("bare", 0, map[string]string{annotationExec: dir, annotationOnly: "true"})
	if err := t.create("exec", pod, bare); err != nil {
		return err
	}
	for _, name := range []string{"shell", "bare"} {
		if err := t.running("exec", name); err != nil {
			return err
		}
	}
	for _, protocol := range []string{"v5.channel.k8s.io", "v4.channel.k8s.io"} {
		out, errs, err := t.run(protocol, "shell", "", "nvidia-smi", "-L")
		var code utilexec.CodeExitError
		if !errors.As(err, &code) || code.Code != 9 || out != "GPU of shell 3\n" || errs != "warning\n" {
			return fmt.Errorf("%s: %q %q %v", protocol, out, errs, err)
		}
	}
	out, _, err := t.run("v5.channel.k8s.io", "shell", "hello", "cat")
	if err != nil || out != "hello" {
		return fmt.Errorf("stdin: %q %v", out, err)
	}
	if _, _, err = t.run("v5.channel.k8s.io", "bare", "", "sh", "-c", "true"); err == nil || !strings.Contains(err.Error(), "not found in $PATH") {
		return fmt.Errorf("a shell where there is none: %v", err)
	}
	return nil
}

func (t *tester) run(protocol, pod, stdin string, argv ...string) (string, string, error) {
	options := &v1.PodExecOptions{Container: "vllm", Command: argv, Stdin: stdin != "", Stdout: true, Stderr: true}
	url := t.admin.CoreV1().RESTClient().Get().Namespace("exec").Resource("pods").Name(pod).
		SubResource("exec").VersionedParams(options, scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewWebSocketExecutorForProtocols(t.config, "GET", url.String(), protocol)
	if err != nil {
		return "", "", err
	}
	var out, errs bytes.Buffer
	streams := remotecommand.StreamOptions{Stdout: &out, Stderr: &errs}
	if stdin != "" {
		streams.Stdin = strings.NewReader(stdin)
	}
	err = executor.StreamWithContext(t.ctx, streams)
	return out.String(), errs.String(), err
}

// forward speaks HTTP to a server of this machine through a pod's port.
func (t *tester) forward() error {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "metrics") }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	if err := t.namespace("forward"); err != nil {
		return err
	}
	if err := t.create("forward", podOf("server", 0, map[string]string{annotationPorts: "8000=" + port})); err != nil {
		return err
	}
	if err := t.running("forward", "server"); err != nil {
		return err
	}
	url := t.admin.CoreV1().RESTClient().Get().Namespace("forward").Resource("pods").Name("server").SubResource("portforward").URL()
	dialer, err := portforward.NewSPDYOverWebsocketDialer(url, t.config)
	if err != nil {
		return err
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	defer close(stop)
	forwarder, err := portforward.New(dialer, []string{"0:8000"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	failure := make(chan error, 1)
	go func() { failure <- forwarder.ForwardPorts() }()
	select {
	case err := <-failure:
		return err
	case <-ready:
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && string(text) != "metrics" {
		err = fmt.Errorf("the port says %q", text)
	}
	if err != nil {
		return err
	}
	// The same port by the API server's own proxy, and one that nothing listens at.
	proxied := func(name string) ([]byte, error) {
		return t.admin.CoreV1().RESTClient().Get().Namespace("forward").Resource("pods").Name(name).SubResource("proxy").DoRaw(t.ctx)
	}
	if text, err = proxied("server:8000"); err == nil && string(text) != "metrics" {
		err = fmt.Errorf("the proxy says %q", text)
	}
	if err != nil {
		return err
	}
	if text, err := proxied("server:8001"); err == nil {
		return fmt.Errorf("a port where nothing listens says %q", text)
	}
	return nil
}

func (t *tester) custom() error {
	for _, k := range kinds {
		body := fmt.Sprintf(`{"apiVersion":"%s/%s","kind":"%s","metadata":{"name":"one"},"spec":{"anything":1}}`, k.group, k.version, k.kind)
		path := fmt.Sprintf("/apis/%s/%s/namespaces/default/%s", k.group, k.version, k.plural)
		err := t.eventually(func() error {
			return t.admin.CoreV1().RESTClient().Post().AbsPath(path).Body([]byte(body)).Do(t.ctx).Error()
		})
		if err != nil {
			return fmt.Errorf("%s: %w", k.kind, err)
		}
	}
	return nil
}

func (t *tester) rights() error {
	_, nobody, err := t.user("nobody")
	if err != nil {
		return err
	}
	if _, err := nobody.CoreV1().Pods("default").List(t.ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("nobody may list pods: %v", err)
	}
	for _, name := range []string{"expired", "expired-cert"} {
		_, user, err := t.user(name)
		if err != nil {
			return err
		}
		if _, err := user.CoreV1().Pods("default").List(t.ctx, metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
			return fmt.Errorf("%s is let in: %v", name, err)
		}
	}
	// A token which ends while it is in use.
	answer, err := t.command(map[string]any{"cmd": "token", "namespace": "default", "account": "default", "ttl": "2s"})
	if err != nil {
		return err
	}
	_, short, err := clientFor(fmt.Sprint(answer["kubeconfig"]))
	if err != nil {
		return err
	}
	if _, err := short.CoreV1().Pods("default").List(t.ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		return fmt.Errorf("the token is not known: %v", err)
	}
	return t.eventually(func() error {
		if _, err := short.CoreV1().Pods("default").List(t.ctx, metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
			return fmt.Errorf("the token does not end: %v", err)
		}
		return nil
	})
}

func (t *tester) cut() error {
	for _, action := range []string{"close", "reset"} {
		w, err := t.admin.CoreV1().Pods("default").Watch(t.ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		answer, err := t.command(map[string]any{"cmd": "proxy", "action": action})
		if err != nil {
			return err
		}
		if answer["cut"].(float64) < 1 {
			return errors.New("there was nothing to cut")
		}
		select {
		case <-drainWatch(w):
		case <-time.After(5 * time.Second):
			return fmt.Errorf("the watch outlives %q", action)
		}
	}
	if _, err := t.command(map[string]any{"cmd": "proxy", "action": "refuse", "for": "500ms"}); err != nil {
		return err
	}
	if err := ready(t.ctx, t.config.Host+"/readyz"); err == nil {
		return errors.New("a refused connection answers")
	}
	if _, err := t.command(map[string]any{"cmd": "proxy", "action": "stall", "for": "1s"}); err != nil {
		return err
	}
	return t.eventually(func() error {
		_, err := t.admin.CoreV1().Pods("default").List(t.ctx, metav1.ListOptions{})
		return err
	})
}

func drainWatch(w watch.Interface) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range w.ResultChan() {
		}
	}()
	return over
}

func (t *tester) restart() error {
	list, err := t.admin.CoreV1().Pods("default").List(t.ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	old := list.ResourceVersion
	if err := t.create("default", podOf("later", 0, nil)); err != nil {
		return err
	}
	if err := t.running("default", "later"); err != nil {
		return err
	}
	answer, err := t.command(map[string]any{"cmd": "component", "name": apiserverName, "action": "restart", "down": "500ms"})
	if err != nil {
		return err
	}
	fmt.Printf("     API server restart: %v ms\n", answer["ms"])
	if _, err := t.command(map[string]any{"cmd": "compact", "restart": true}); err != nil {
		return err
	}
	return t.eventually(func() error {
		w, err := t.admin.CoreV1().Pods("default").Watch(t.ctx, metav1.ListOptions{ResourceVersion: old})
		if err != nil {
			return err
		}
		defer w.Stop()
		select {
		case e := <-w.ResultChan():
			if e.Type == watch.Error && apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
				return nil
			}
			return fmt.Errorf("the watch says %v", e.Type)
		case <-time.After(3 * time.Second):
			return errors.New("the watch says nothing")
		}
	})
}

func (t *tester) silentNode() error {
	if _, err := t.command(map[string]any{"cmd": "node", "name": "gpu-3", "action": "down"}); err != nil {
		return err
	}
	if _, err := t.command(map[string]any{"cmd": "node", "name": "gpu-3", "action": "up"}); err != nil {
		return err
	}
	node, err := t.admin.CoreV1().Nodes().Get(t.ctx, "gpu-3", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if gpus := node.Status.Allocatable["nvidia.com/gpu"]; gpus.Value() != 8 {
		return fmt.Errorf("%s GPUs", gpus.String())
	}
	return nil
}

func (t *tester) many() error {
	if err := t.namespace("many"); err != nil {
		return err
	}
	began := time.Now()
	work := make(chan int)
	failures := make(chan error, 8)
	for range 8 {
		go func() {
			var failure error
			for i := range work {
				if err := t.create("many", podOf(fmt.Sprintf("foreign-%d", i), 0, map[string]string{annotationEvents: "off"})); err != nil {
					failure = err
				}
			}
			failures <- failure
		}()
	}
	for i := range t.pods {
		work <- i
	}
	close(work)
	for range 8 {
		if err := <-failures; err != nil {
			return err
		}
	}
	created := time.Since(began)
	err := fmt.Errorf("no pod runs")
	for end := time.Now().Add(5 * time.Minute); err != nil && time.Now().Before(end); sleep(t.ctx, time.Second) {
		list, lerr := t.admin.CoreV1().Pods("many").List(t.ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err = lerr; err == nil && len(list.Items) < t.pods {
			err = fmt.Errorf("%d of %d run", len(list.Items), t.pods)
		}
	}
	fmt.Printf("     %d pods: created in %d ms, all run after %d ms\n", t.pods, created.Milliseconds(), time.Since(began).Milliseconds())
	return err
}

func (t *tester) audit() error {
	raw, err := os.ReadFile(t.up.AuditLog)
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for line := range bytes.Lines(raw) {
		var e struct {
			User struct {
				Username string `json:"username"`
			} `json:"user"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		seen[e.User.Username]++
	}
	if seen["admin"] == 0 || seen["cplane:kubelet"] > 0 || seen["system:kube-scheduler"] > 0 {
		return fmt.Errorf("the log names %v", seen)
	}
	// The control address obeys as stdin does.
	answer, err := http.Post(t.up.Control, "application/json", strings.NewReader(`{"cmd":"ping","id":7}`))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// end closes stdin, and looks for what is left.
func (t *tester) end() error {
	t.stdin.Close()
	if err := t.cmd.Wait(); err != nil {
		return err
	}
	return t.clean()
}

func (t *tester) clean() error {
	return t.eventually(func() error {
		if _, err := os.Stat(t.up.Dir); err == nil {
			return fmt.Errorf("%s is there", t.up.Dir)
		}
		for name, pid := range t.up.Pids {
			if alive(pid) {
				return fmt.Errorf("%s is there", name)
			}
		}
		return nil
	})
}

// alive tells whether a process is there and more than a zombie.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// killed starts another control plane and kills it the hard way.
func (t *tester) killed() error {
	if err := t.start(); err != nil {
		return err
	}
	if err := t.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	_ = t.cmd.Wait()
	return t.clean()
}
