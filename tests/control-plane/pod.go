package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type stage int

const (
	fresh stage = iota // not begun: its turn has not come
	waiting
	running
	terminated
)

const (
	// shown is how long a container that ended is seen as terminated before
	// it waits in back-off or runs again.
	shown = 200 * time.Millisecond
	// firstBackoff and lastBackoff bound the pause between restarts; the first
	// restart comes at once, as the kubelet does it.
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// container is one container of a pod through all its runs.
type container struct {
	spec    *v1.Container
	init    bool
	sidecar bool
	plan    plan

	stage   stage
	reason  string // while it waits
	message string
	until   time.Time // end of waiting; zero: never

	restarts int32
	begun    int32 // runs since the pod was first seen
	run      *run
	previous *run
	past     *v1.ContainerStateTerminated

	startedAt time.Time
	exitAt    time.Time // zero: runs on
	exit      *v1.ContainerStateTerminated
	restartAt time.Time
	stopping  bool
}

// run is one life of a container: an ID, a log, commands run in it.
type run struct {
	id      string
	log     *logFile
	running atomic.Bool
	drained atomic.Bool
	stop    context.CancelFunc
}

// pod drives one pod through its containers' plans.
type pod struct {
	k    *kubelet
	name string
	node string
	ctx  context.Context
	end  context.CancelFunc
	kick chan struct{}

	mu         sync.Mutex
	object     *v1.Pod
	containers []*container
	startTime  metav1.Time
	ip         string
	broken     error // annotations nobody can follow
	overlay    string
	overridden bool
	done       bool
	events     []pendingEvent
}

type pendingEvent struct{ kind, reason, message string }

func newPod(k *kubelet, object *v1.Pod) *pod {
	ctx, end := context.WithCancel(k.ctx)
	p := &pod{
		k: k, name: object.Name, node: object.Spec.NodeName, ctx: ctx, end: end,
		kick:      make(chan struct{}, 1),
		object:    object,
		startTime: metav1.NewTime(time.Now().Truncate(time.Second)),
		ip:        k.address(object),
	}
	var plans map[string]plan
	plans, p.broken = plansFor(object)
	for i := range object.Spec.InitContainers {
		c := &object.Spec.InitContainers[i]
		p.containers = append(p.containers, &container{spec: c, init: true, sidecar: isSidecar(c), plan: plans[c.Name]})
	}
	for i := range object.Spec.Containers {
		c := &object.Spec.Containers[i]
		p.containers = append(p.containers, &container{spec: c, plan: plans[c.Name]})
	}
	for _, c := range p.containers {
		if p.broken == nil {
			_, p.broken = logFor(object, c.spec.Name)
		}
	}
	for _, c := range p.containers {
		if p.broken != nil {
			c.plan = plan{Waiting: "CreateContainerConfigError", Message: p.broken.Error()}
		}
		p.invent(c)
	}
	return p
}

// invent gives a container the past its plan claims.
func (p *pod) invent(c *container) {
	c.restarts = c.plan.Restarts
	last := c.plan.Last
	if last == nil {
		return
	}
	finished := time.Now().Add(-last.Ago.Duration)
	id := newContainerID()
	c.past = &v1.ContainerStateTerminated{
		ExitCode:    last.Exit,
		Signal:      last.Signal,
		Reason:      reasonFor(last.Exit, last.Reason),
		Message:     last.Message,
		StartedAt:   metav1.NewTime(finished.Add(-time.Minute)),
		FinishedAt:  metav1.NewTime(finished),
		ContainerID: id,
	}
	if last.Log == "" {
		return
	}
	log, err := newLogFile(p.logPath(c, c.restarts-1), logPlan{MaxFiles: 5})
	if err != nil {
		return
	}
	if text, err := os.ReadFile(fill(last.Log, p.object, c.spec.Name, c.restarts-1)); err == nil {
		log.appendAll("stdout", text, finished)
	}
	log.close()
	c.previous = &run{id: id, log: log}
}

func (p *pod) logPath(c *container, number int32) string {
	return p.k.p.path("pods", fmt.Sprintf("%s_%s_%s", p.object.Namespace, p.object.Name, p.object.UID),
		c.spec.Name, fmt.Sprintf("%d.log", number))
}

// poke makes the pod look at itself again.
func (p *pod) poke() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// loop lives as long as the pod does.
func (p *pod) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var next time.Time
		if !p.k.isDown(p.node) {
			p.mu.Lock()
			next = p.step(time.Now())
			status := p.status()
			object, events := p.object, p.events
			p.events = nil
			gone := p.gone()
			p.mu.Unlock()
			for _, e := range events {
				p.k.event(object, e)
			}
			if err := p.publish(status, gone); err != nil && p.ctx.Err() == nil {
				next = time.Now().Add(300 * time.Millisecond)
			}
		}
		pause := time.Hour
		if !next.IsZero() {
			pause = max(time.Until(next), time.Millisecond)
		}
		timer.Reset(pause)
		select {
		case <-p.ctx.Done():
			p.cleanup()
			return
		case <-p.kick:
		case <-timer.C:
		}
	}
}

func (p *pod) cleanup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.containers {
		if c.stage == running {
			p.finish(c, time.Now(), 137, 0, "Error", "")
		}
		p.k.drop(c.run)
		p.k.drop(c.previous)
	}
	_ = os.RemoveAll(p.k.p.path("pods", fmt.Sprintf("%s_%s_%s", p.object.Namespace, p.object.Name, p.object.UID)))
}

// step moves every container as far as it goes now, and tells when to look
// again (zero: when something happens).
func (p *pod) step(now time.Time) time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if p.done {
		return next
	}
	if p.object.DeletionTimestamp != nil {
		p.terminate(now, sooner)
		return next
	}
	policy := p.object.Spec.RestartPolicy
	for _, c := range p.containers {
		if c.init && !p.passed(c, now) {
			p.advance(c, now, sooner)
		} else if c.sidecar {
			p.advance(c, now, sooner)
		}
		if c.init && !p.passed(c, now) {
			if !c.sidecar && c.stage == terminated && c.exit.ExitCode != 0 && policy == v1.RestartPolicyNever && !c.plan.Hold {
				p.stopSidecars(now)
				p.done = true
			}
			return next
		}
	}
	over := true
	for _, c := range p.containers {
		if c.init {
			continue
		}
		p.advance(c, now, sooner)
		over = over && c.stage == terminated && !p.restartable(c)
	}
	if over {
		p.stopSidecars(now)
		p.done = true
	}
	return next
}

// passed tells whether an init container lets those behind it start.
func (p *pod) passed(c *container, now time.Time) bool {
	if c.sidecar {
		return c.stage == running && c.isStarted()
	}
	return c.stage == terminated && c.exit.ExitCode == 0
}

func (c *container) isStarted() bool {
	return c.stage == running && (c.plan.Started == nil || *c.plan.Started)
}

func (c *container) isReady(now time.Time) bool {
	if c.init && !c.sidecar {
		return c.stage == terminated && c.exit.ExitCode == 0
	}
	return c.isStarted() && (c.plan.Ready == nil || *c.plan.Ready) &&
		!now.Before(c.startedAt.Add(c.plan.ReadyAfter.Duration))
}

// restartable tells whether the pod's policy brings a container back.
func (p *pod) restartable(c *container) bool {
	if c.sidecar {
		return true
	}
	switch p.object.Spec.RestartPolicy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return c.exit.ExitCode != 0
	}
	return !c.init || c.exit.ExitCode != 0
}

func (p *pod) advance(c *container, now time.Time, sooner func(time.Time)) {
	if c.stage == fresh {
		c.stage = waiting
		c.reason, c.message = c.plan.Waiting, c.plan.Message
		if c.reason == "" {
			c.until = now
		} else {
			if c.plan.WaitFor != nil && !c.plan.WaitFor.never {
				c.until = now.Add(c.plan.WaitFor.Duration)
			}
			p.tellWaiting(c)
		}
	}
	if c.stage == waiting && !c.until.IsZero() {
		if now.Before(c.until) {
			sooner(c.until)
			return
		}
		p.start(c, now)
	}
	if c.stage == running {
		if ready := c.startedAt.Add(c.plan.ReadyAfter.Duration); now.Before(ready) {
			sooner(ready)
		}
		if c.exitAt.IsZero() && c.plan.AfterLog && p.willEnd(c) && c.run.drained.Load() {
			c.exitAt = now.Add(c.plan.After.Duration)
		}
		if !c.exitAt.IsZero() {
			if now.Before(c.exitAt) {
				sooner(c.exitAt)
				return
			}
			code, reason := c.plan.outcome()
			p.finish(c, c.exitAt, code, c.plan.Signal, reason, c.plan.Words)
		}
	}
	if c.stage == terminated && !c.plan.Hold && p.restartable(c) {
		switch {
		case !now.Before(c.restartAt):
			c.stage, c.until = waiting, now
			p.start(c, now)
			sooner(now.Add(time.Millisecond))
		case c.restartAt.Sub(c.exit.FinishedAt.Time) > 2*time.Second && !now.Before(c.exit.FinishedAt.Add(shown)):
			p.retire(c)
			pause := c.restartAt.Sub(c.past.FinishedAt.Time).Round(time.Second)
			c.stage, c.until = waiting, c.restartAt
			c.reason = "CrashLoopBackOff"
			c.message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				pause, c.spec.Name, p.object.Name, p.object.Namespace, p.object.UID)
			p.tell(v1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)",
				c.spec.Name, p.object.Name, p.object.Namespace, p.object.UID))
			sooner(c.until)
		case c.restartAt.Sub(c.exit.FinishedAt.Time) > 2*time.Second:
			sooner(c.exit.FinishedAt.Add(shown))
		default:
			sooner(c.restartAt)
		}
	}
}

// willEnd tells whether this run is one that ends by itself.
func (p *pod) willEnd(c *container) bool {
	return c.plan.ends() && (c.plan.Exits == 0 || c.begun <= c.plan.Exits)
}

// retire moves the run that ended into the container's past.
func (p *pod) retire(c *container) {
	if c.exit == nil {
		return
	}
	if c.previous != nil && c.previous.log != nil {
		c.previous.log.remove()
	}
	p.k.drop(c.previous)
	c.past, c.exit = c.exit, nil
	c.previous, c.run = c.run, nil
}

func (p *pod) start(c *container, now time.Time) {
	if c.exit != nil || c.begun > 0 || c.past != nil && c.plan.Waiting != "" {
		c.restarts++
	}
	p.retire(c)
	c.begun++
	c.stage, c.startedAt, c.exitAt = running, now, time.Time{}
	c.reason, c.message = "", ""
	ctx, stop := context.WithCancel(p.ctx)
	c.run = &run{id: newContainerID(), stop: stop}
	c.run.running.Store(true)
	p.k.remember(c.run)
	if p.willEnd(c) && !c.plan.AfterLog {
		c.exitAt = now.Add(c.plan.After.Duration)
	}
	source, err := logFor(p.object, c.spec.Name)
	if err == nil {
		c.run.log, err = newLogFile(p.logPath(c, c.restarts), source)
	}
	if err != nil {
		p.k.complain("the log of %s/%s: %v", p.object.Namespace, p.object.Name, err)
		return
	}
	source.File = fill(source.File, p.object, c.spec.Name, c.restarts)
	source.Prefix = fill(source.Prefix, p.object, c.spec.Name, c.restarts)
	life := c.run
	go func() {
		life.log.feed(ctx, source, func() {
			life.drained.Store(true)
			p.poke()
		})
	}()
	p.tell(v1.EventTypeNormal, "Started", "Started container "+c.spec.Name)
}

// finish ends the current run.
func (p *pod) finish(c *container, at time.Time, code, signal int32, reason, words string) {
	c.exit = &v1.ContainerStateTerminated{
		ExitCode:    code,
		Signal:      signal,
		Reason:      reason,
		Message:     words,
		StartedAt:   metav1.NewTime(c.startedAt),
		FinishedAt:  metav1.NewTime(at),
		ContainerID: c.run.id,
	}
	c.stage, c.exitAt = terminated, time.Time{}
	c.run.stop()
	p.k.execs.killRun(c.run.id)
	if c.run.log != nil {
		c.run.log.close()
	}
	c.run.running.Store(false)
	pause := shown
	switch {
	case c.plan.Backoff != nil:
		pause = max(c.plan.Backoff.Duration, shown)
	case c.begun > 1:
		pause = min(firstBackoff<<min(c.begun-2, 8), lastBackoff)
	}
	c.restartAt = at.Add(pause)
}

func (p *pod) stopSidecars(now time.Time) {
	for i := len(p.containers) - 1; i >= 0; i-- {
		if c := p.containers[i]; c.sidecar && c.stage == running {
			p.finish(c, now, 0, 0, "Completed", "")
		}
	}
}

// terminate brings a deleted pod down, in the time its containers take and at
// most in its grace period.
func (p *pod) terminate(now time.Time, sooner func(time.Time)) {
	deadline := p.object.DeletionTimestamp.Time
	left := 0
	for _, c := range p.containers {
		if c.stage != running {
			continue
		}
		if !c.stopping {
			c.stopping = true
			c.exitAt = time.Time{}
			if !c.plan.StopAfter.never {
				c.exitAt = now.Add(c.plan.StopAfter.Duration)
			}
			p.tell(v1.EventTypeNormal, "Killing", "Stopping container "+c.spec.Name)
		}
		code := int32(143)
		if c.plan.StopExit != nil {
			code = *c.plan.StopExit
		}
		at := c.exitAt
		if !at.IsZero() && at.After(deadline) && c.plan.StopAfter.Duration > 0 {
			at, code = deadline, 137
		}
		switch {
		case at.IsZero():
			left++
		case now.Before(at):
			left++
			sooner(at)
		default:
			p.finish(c, now, code, 0, reasonFor(code, ""), "")
		}
	}
	if left == 0 {
		p.done = true
	}
}

// gone tells whether a deleted pod may vanish from the API.
func (p *pod) gone() bool { return p.done && p.object.DeletionTimestamp != nil }

func (p *pod) tell(kind, reason, message string) {
	if p.object.Annotations[annotationEvents] != "off" {
		p.events = append(p.events, pendingEvent{kind, reason, message})
	}
}

// tellWaiting raises the event that goes with a reason to wait.
func (p *pod) tellWaiting(c *container) {
	switch c.reason {
	case "ErrImagePull", "ImagePullBackOff":
		p.tell(v1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.spec.Image, c.message))
		p.tell(v1.EventTypeWarning, "Failed", "Error: "+c.reason)
	case "CrashLoopBackOff":
		p.tell(v1.EventTypeWarning, "BackOff", "Back-off restarting failed container "+c.spec.Name)
	case "ContainerCreating":
		p.tell(v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.spec.Image))
	case "PodInitializing":
	default:
		p.tell(v1.EventTypeWarning, "Failed", "Error: "+c.message)
	}
}

// find returns the container of that name, the first one for no name.
func (p *pod) find(name string) *container {
	for _, c := range p.containers {
		if c.spec.Name == name || name == "" && !c.init {
			return c
		}
	}
	return nil
}

func newContainerID() string { return "containerd://" + randomHex(32) }
