package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status writes down the pod as a kubelet would, and lays over it what the
// annotation or a command says.
func (p *pod) status() v1.PodStatus {
	now := time.Now()
	s := *p.object.Status.DeepCopy()
	start := p.startTime
	s.StartTime = &start
	s.HostIP = p.k.nodeAddress(p.object.Spec.NodeName)
	s.HostIPs = []v1.HostIP{{IP: s.HostIP}}
	s.PodIP, s.PodIPs = "", nil
	s.Reason, s.Message = "", ""
	s.ObservedGeneration = p.object.Generation
	s.InitContainerStatuses, s.ContainerStatuses = nil, nil
	sandbox := !p.done
	initialized := true
	var uninitialized, unready []string
	for _, c := range p.containers {
		if c.stage == waiting && c.reason == "ContainerCreating" {
			sandbox = false
		}
		cs := p.containerStatus(c, now)
		if c.init {
			s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
			if !p.passed(c, now) && !(c.sidecar && p.done) {
				initialized = false
				uninitialized = append(uninitialized, c.spec.Name)
			}
		} else {
			s.ContainerStatuses = append(s.ContainerStatuses, cs)
		}
		if (!c.init || c.sidecar) && !cs.Ready {
			unready = append(unready, c.spec.Name)
		}
	}
	if sandbox || p.done {
		s.PodIP = p.ip
		s.PodIPs = []v1.PodIP{{IP: p.ip}}
	}
	s.Phase = p.phase()

	set := func(kind v1.PodConditionType, on bool, reason, message string) {
		value := v1.ConditionFalse
		if on {
			value, reason, message = v1.ConditionTrue, "", ""
		}
		s.Conditions = setCondition(s.Conditions, v1.PodCondition{
			Type: kind, Status: value, Reason: reason, Message: message, ObservedGeneration: p.object.Generation,
		})
	}
	set(v1.PodReadyToStartContainers, sandbox, "", "")
	set(v1.PodInitialized, initialized, "ContainersNotInitialized",
		fmt.Sprintf("containers with incomplete status: %s", list(uninitialized)))
	reason, message := "ContainersNotReady", fmt.Sprintf("containers with unready status: %s", list(unready))
	ready := len(unready) == 0
	switch s.Phase {
	case v1.PodSucceeded:
		ready, reason, message = false, "PodCompleted", ""
		set(v1.PodInitialized, true, "", "")
	case v1.PodFailed:
		ready, reason, message = false, "PodFailed", ""
	}
	set(v1.ContainersReady, ready, reason, message)
	if ready {
		for _, gate := range p.object.Spec.ReadinessGates {
			if !conditionTrue(s.Conditions, gate.ConditionType) {
				ready, reason = false, "ReadinessGatesNotReady"
				message = fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType)
			}
		}
	}
	set(v1.PodReady, ready, reason, message)

	overlays := []string{}
	if c, known := phases[p.object.Annotations[annotationPhase]]; known {
		overlays = append(overlays, c.status)
	}
	if p.overridden {
		overlays = append(overlays, p.overlay)
	} else {
		overlays = append(overlays, p.object.Annotations[annotationStatus])
	}
	for _, text := range overlays {
		s = p.lay(s, text)
	}
	return s
}

// lay applies a JSON merge patch to the status.
func (p *pod) lay(s v1.PodStatus, text string) v1.PodStatus {
	if text == "" {
		return s
	}
	fail := func(err error) v1.PodStatus {
		s.Message = "cplane: " + err.Error()
		return s
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fail(err)
	}
	merged, err := jsonpatch.MergePatch(raw, []byte(text))
	if err != nil {
		return fail(err)
	}
	var laid v1.PodStatus
	if err := json.Unmarshal(merged, &laid); err != nil {
		return fail(err)
	}
	return laid
}

func (p *pod) containerStatus(c *container, now time.Time) v1.ContainerStatus {
	s := v1.ContainerStatus{
		Name:         c.spec.Name,
		Image:        c.spec.Image,
		RestartCount: c.restarts,
		Ready:        c.isReady(now),
	}
	started := c.isStarted()
	s.Started = &started
	if c.past != nil {
		s.LastTerminationState.Terminated = c.past
	}
	if c.run != nil {
		s.ContainerID = c.run.id
		s.ImageID = c.spec.Image + "@sha256:" + strings.Repeat("0", 64)
	} else if c.past != nil {
		s.ContainerID = c.past.ContainerID
	}
	switch c.stage {
	case fresh:
		reason := "ContainerCreating"
		if len(p.object.Spec.InitContainers) > 0 {
			reason = "PodInitializing"
		}
		s.State.Waiting = &v1.ContainerStateWaiting{Reason: reason}
	case waiting:
		s.State.Waiting = &v1.ContainerStateWaiting{Reason: c.reason, Message: c.message}
	case running:
		s.State.Running = &v1.ContainerStateRunning{StartedAt: metav1.NewTime(c.startedAt)}
	case terminated:
		s.State.Terminated = c.exit
	}
	return s
}

// phase follows the kubelet's rules.
func (p *pod) phase() v1.PodPhase {
	var runs, waits, stops, succeeds int
	for _, c := range p.containers {
		if c.init {
			if c.sidecar {
				if !p.done && !c.isStarted() && c.begun == 0 {
					return v1.PodPending
				}
				continue
			}
			if c.stage == terminated && c.exit.ExitCode == 0 {
				continue
			}
			if c.stage == terminated && p.object.Spec.RestartPolicy == v1.RestartPolicyNever {
				return v1.PodFailed
			}
			if p.object.DeletionTimestamp != nil && p.done {
				return v1.PodFailed
			}
			return v1.PodPending
		}
		switch {
		case c.stage == running:
			runs++
		case c.stage == terminated:
			stops++
			if c.exit.ExitCode == 0 {
				succeeds++
			}
		case c.stage == waiting && c.past != nil:
			stops++
		default:
			waits++
		}
	}
	switch policy := p.object.Spec.RestartPolicy; {
	case p.gone() && succeeds == stops && waits == 0:
		return v1.PodSucceeded
	case p.gone():
		return v1.PodFailed
	case waits > 0:
		return v1.PodPending
	case runs > 0:
		return v1.PodRunning
	case policy == v1.RestartPolicyAlways:
		return v1.PodRunning
	case stops == succeeds:
		return v1.PodSucceeded
	case policy == v1.RestartPolicyNever:
		return v1.PodFailed
	}
	return v1.PodRunning
}

func setCondition(conditions []v1.PodCondition, c v1.PodCondition) []v1.PodCondition {
	for i := range conditions {
		old := &conditions[i]
		if old.Type != c.Type {
			continue
		}
		c.LastTransitionTime = old.LastTransitionTime
		if old.Status != c.Status {
			c.LastTransitionTime = metav1.Now()
		}
		*old = c
		return conditions
	}
	c.LastTransitionTime = metav1.Now()
	return append(conditions, c)
}

func conditionTrue(conditions []v1.PodCondition, kind v1.PodConditionType) bool {
	for _, c := range conditions {
		if c.Type == kind {
			return c.Status == v1.ConditionTrue
		}
	}
	return false
}

func list(names []string) string { return "[" + strings.Join(names, " ") + "]" }
