package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// request is one command of a test: a line of JSON on stdin, or the body of a
// POST to the control address. README.md lists the commands.
type request struct {
	Cmd    string `json:"cmd"`
	Action string `json:"action"`
	ID     any    `json:"id"`

	Name     string `json:"name"`
	Down     span   `json:"down"`
	For      span   `json:"for"`
	Graceful bool   `json:"graceful"`
	Restart  bool   `json:"restart"`
	NoWait   bool   `json:"noWait"`

	Namespace string          `json:"namespace"`
	Pod       string          `json:"pod"`
	Container string          `json:"container"`
	Lines     []string        `json:"lines"`
	Stream    string          `json:"stream"`
	Stamp     string          `json:"stamp"`
	Plan      json.RawMessage `json:"plan"`
	Status    json.RawMessage `json:"status"`
	Exit      int32           `json:"exit"`
	Signal    int32           `json:"signal"`
	Reason    string          `json:"reason"`
	Message   string          `json:"message"`

	User    string   `json:"user"`
	Groups  []string `json:"groups"`
	Account string   `json:"account"`
	TTL     span     `json:"ttl"`
}

// control obeys the tests' commands.
type control struct {
	p    *plane
	ctx  context.Context
	quit func()
}

// listen opens the control address.
func (c *control) listen() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q request
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		var answer map[string]any
		if err := d.Decode(&q); err != nil {
			answer = refusal(err)
		} else {
			answer = c.obey(q)
		}
		w.Header().Set("Content-Type", "application/json")
		if answer["ok"] != true {
			w.WriteHeader(http.StatusBadRequest)
		}
		_ = json.NewEncoder(w).Encode(answer)
	})}
	go func() { _ = server.Serve(l) }()
	return "http://" + l.Addr().String() + "/", nil
}

func refusal(err error) map[string]any {
	return map[string]any{"ok": false, "error": err.Error()}
}

// line obeys one line of stdin.
func (c *control) line(text string) map[string]any {
	var q request
	if err := strict(text, &q); err != nil {
		return refusal(err)
	}
	return c.obey(q)
}

// obey carries out one command. The answer repeats its "id".
func (c *control) obey(q request) map[string]any {
	began := time.Now()
	answer, err := c.run(q)
	if err != nil {
		answer = refusal(err)
	} else {
		if answer == nil {
			answer = map[string]any{}
		}
		answer["ok"] = true
	}
	if q.ID != nil {
		answer["id"] = q.ID
	}
	answer["ms"] = time.Since(began).Milliseconds()
	return answer
}

func (c *control) run(q request) (map[string]any, error) {
	switch q.Cmd {
	case "ping":
		return nil, nil
	case "stop":
		c.quit()
		return nil, nil
	case "component":
		return nil, c.component(q)
	case "compact":
		return c.compact(q)
	case "proxy":
		return c.proxy(q)
	case "node":
		return nil, c.node(q)
	case "token":
		return c.token(q)
	case "kubeconfig":
		return c.kubeconfig(q)
	case "execs":
		return c.p.kubelet.execs.report(), nil
	case "stats":
		return c.stats(), nil
	case "log-append", "log-rotate", "log-count", "container-exit", "plan", "pod-status":
		return c.pod(q)
	}
	return nil, fmt.Errorf("no command is called %q", q.Cmd)
}

func (c *control) component(q request) error {
	part := c.p.parts[q.Name]
	if part == nil {
		return fmt.Errorf("no component is called %q", q.Name)
	}
	waitReady := func() error {
		if q.Name == apiserverName && !q.NoWait {
			return c.p.waitAPIServer(c.ctx)
		}
		return nil
	}
	switch q.Action {
	case "stop":
		return part.stop(q.Graceful)
	case "start":
		if err := part.start(); err != nil {
			return err
		}
		return waitReady()
	case "restart":
		cycle := func() error {
			if err := part.stop(q.Graceful); err != nil {
				return err
			}
			if !sleep(c.ctx, q.Down.Duration) {
				return c.ctx.Err()
			}
			if err := part.start(); err != nil {
				return err
			}
			return waitReady()
		}
		if q.NoWait {
			go func() {
				if err := cycle(); err != nil {
					c.p.kubelet.complain("restart of %s: %v", q.Name, err)
				}
			}()
			return nil
		}
		return cycle()
	case "pause":
		if err := part.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		after(q.For.Duration, func() { _ = part.signal(syscall.SIGCONT) })
		return nil
	case "resume":
		return part.signal(syscall.SIGCONT)
	}
	return fmt.Errorf("no action on a component is called %q", q.Action)
}

// compact forgets all of etcd's history. The API server's own watch cache
// still answers for it until it is restarted.
func (c *control) compact(q request) (map[string]any, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{c.p.etcd}, DialTimeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
	defer cancel()
	state, err := client.Get(ctx, "/")
	if err != nil {
		return nil, err
	}
	revision := state.Header.Revision
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return nil, err
	}
	if q.Restart {
		err = c.p.restartAPIServer(c.ctx, q.Down.Duration, q.Graceful)
	}
	return map[string]any{"revision": revision}, err
}

func (c *control) proxy(q request) (map[string]any, error) {
	p := c.p.proxy
	answer := map[string]any{}
	switch q.Action {
	case "close":
		answer["cut"] = p.cut(false)
	case "reset":
		answer["cut"] = p.cut(true)
	case "refuse":
		p.setRefuse(true)
		after(q.For.Duration, func() { p.setRefuse(false) })
	case "stall":
		p.setStall(true)
		after(q.For.Duration, func() { p.setStall(false) })
	case "resume":
		p.setRefuse(false)
		p.setStall(false)
	case "count":
	default:
		return nil, fmt.Errorf("no action on the proxy is called %q", q.Action)
	}
	answer["open"], answer["total"] = p.counts()
	return answer, nil
}

func (c *control) node(q request) error {
	switch q.Action {
	case "down":
		return c.p.kubelet.setDown(q.Name, true)
	case "up":
		return c.p.kubelet.setDown(q.Name, false)
	}
	return fmt.Errorf("no action on a node is called %q", q.Action)
}

// token signs a token of a service account with any lifetime, above or below
// zero, and writes a kubeconfig with it.
func (c *control) token(q request) (map[string]any, error) {
	account, err := c.p.client.CoreV1().ServiceAccounts(q.Namespace).Get(c.ctx, q.Account, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	token, err := c.p.signer.token(q.Namespace, q.Account, string(account.UID), q.TTL.Duration)
	if err != nil {
		return nil, err
	}
	file, err := c.p.tokenConfig(fmt.Sprintf("%s-%s-%s", q.Namespace, q.Account, randomHex(4)), token)
	return map[string]any{"token": token, "kubeconfig": file}, err
}

// kubeconfig makes a user with a certificate.
func (c *control) kubeconfig(q request) (map[string]any, error) {
	if q.User == "" {
		return nil, fmt.Errorf("a user needs a name")
	}
	life := 24 * time.Hour
	if q.TTL.Duration != 0 {
		life = q.TTL.Duration
	}
	name := strings.NewReplacer("/", "_", ":", "_").Replace(q.User) + "-" + randomHex(4)
	file, err := c.p.certificateConfig(name, q.User, q.Groups, life, c.p.proxy.url())
	return map[string]any{"kubeconfig": file}, err
}

func (c *control) stats() map[string]any {
	memory := map[string]any{}
	add := func(name string, pid int) {
		now, peak := residentKiB(pid)
		memory[name] = map[string]int{"pid": pid, "rss_kib": now, "peak_kib": peak}
	}
	add("cplane", os.Getpid())
	for name, part := range c.p.parts {
		add(name, part.pid())
	}
	open, total := c.p.proxy.counts()
	return map[string]any{"processes": memory, "proxy_open": open, "proxy_total": total}
}

// pod carries out the commands on one container or pod.
func (c *control) pod(q request) (map[string]any, error) {
	if q.Namespace == "" {
		q.Namespace = "default"
	}
	p := c.p.kubelet.byName(key(q.Namespace, q.Pod))
	if p == nil {
		return nil, fmt.Errorf("no pod %s/%s is bound to a node", q.Namespace, q.Pod)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.poke()
	if q.Cmd == "pod-status" {
		p.overridden, p.overlay = true, string(q.Status)
		if p.overlay == "null" {
			p.overlay = ""
		}
		return nil, nil
	}
	t := p.find(q.Container)
	if t == nil {
		return nil, fmt.Errorf("pod %s has no container %q", q.Pod, q.Container)
	}
	if q.Cmd == "plan" {
		next, err := parsePlan(string(q.Plan))
		if err != nil {
			return nil, err
		}
		p.replan(t, next)
		return nil, nil
	}
	if t.run == nil || t.run.log == nil {
		return nil, fmt.Errorf("container %q of %s has not run", t.spec.Name, q.Pod)
	}
	log := t.run.log
	answer := map[string]any{"restarts": t.restarts, "containerID": t.run.id}
	switch q.Cmd {
	case "container-exit":
		if t.stage != running {
			return nil, fmt.Errorf("container %q of %s does not run", t.spec.Name, q.Pod)
		}
		code := q.Exit
		if code == 0 && q.Signal != 0 {
			code = 128 + q.Signal
		}
		p.finish(t, time.Now(), code, q.Signal, reasonFor(code, q.Reason), q.Message)
	case "log-append":
		if q.Stream == "" {
			q.Stream = "stdout"
		}
		var stamp time.Time
		if q.Stamp != "" {
			var err error
			if stamp, err = time.Parse(time.RFC3339Nano, q.Stamp); err != nil {
				return nil, err
			}
		}
		for _, line := range q.Lines {
			if err := log.append(q.Stream, line, stamp); err != nil {
				return nil, err
			}
		}
	case "log-rotate":
		if err := log.rotate(); err != nil {
			return nil, err
		}
	}
	answer["lines"], answer["rotations"] = log.counts()
	answer["path"] = log.path
	return answer, nil
}

// replan gives a container another plan, which holds from this moment on.
func (p *pod) replan(c *container, next plan) {
	now := time.Now()
	c.plan = next
	switch c.stage {
	case waiting:
		c.reason, c.message, c.until = next.Waiting, next.Message, time.Time{}
		if next.Waiting == "" {
			c.until = now
		} else if next.WaitFor != nil && !next.WaitFor.never {
			c.until = now.Add(next.WaitFor.Duration)
		}
	case running:
		c.begun, c.exitAt = 1, time.Time{}
		if p.willEnd(c) && !next.AfterLog {
			c.exitAt = now.Add(next.After.Duration)
		}
	case terminated:
		if !next.Hold {
			c.restartAt = now
		}
	}
}
