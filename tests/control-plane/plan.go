package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
)

// The annotations by which a pod says what becomes of it.
const (
	annotationPhase  = "cplane.test/phase"
	annotationPlan   = "cplane.test/plan"
	annotationStatus = "cplane.test/status"
	annotationLog    = "cplane.test/log"
	annotationFile   = "cplane.test/log-file"
	annotationExec   = "cplane.test/exec-dir"
	annotationOnly   = "cplane.test/exec-only"
	annotationPorts  = "cplane.test/ports"
	annotationIP     = "cplane.test/pod-ip"
	annotationEvents = "cplane.test/events"
)

// span is a duration written as "1m30s"; "never" is a span without end.
type span struct {
	time.Duration
	never bool
}

func (s *span) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	if text == "never" {
		s.never = true
		return nil
	}
	d, err := time.ParseDuration(text)
	s.Duration = d
	return err
}

// plan is the course of one container.
type plan struct {
	// Waiting holds the container back with this reason, for WaitFor or for
	// good.
	Waiting string `json:"waiting"`
	Message string `json:"message"`
	WaitFor *span  `json:"waitFor"`

	// Restarts and Last make up a past the container never had.
	Restarts int32 `json:"restarts"`
	Last     *past `json:"last"`

	// A container that names an exit code, a signal or a reason ends After its
	// start (AfterLog: after its log source was read to the end), at most
	// Exits times; else it runs until it is stopped.
	Exit     *int32 `json:"exit"`
	Signal   int32  `json:"signal"`
	Reason   string `json:"reason"` // "-" for none
	Words    string `json:"exitMessage"`
	After    span   `json:"after"`
	AfterLog bool   `json:"afterLog"`
	Exits    int32  `json:"exits"`
	Hold     bool   `json:"hold"` // stays terminated, whatever the restart policy
	Backoff  *span  `json:"backoff"`

	Ready      *bool `json:"ready"`
	ReadyAfter span  `json:"readyAfter"`
	Started    *bool `json:"started"`

	StopAfter span   `json:"stopAfter"`
	StopExit  *int32 `json:"stopExit"`
}

// past is the previous run of a container, as lastState shows it.
type past struct {
	Exit    int32  `json:"exit"`
	Signal  int32  `json:"signal"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Ago     span   `json:"ago"`
	Log     string `json:"log"` // a file: what "previous" answers
}

func (p plan) ends() bool { return p.Exit != nil || p.Signal != 0 || p.Reason != "" }

// outcome is the exit code and the reason with which a run ends.
func (p plan) outcome() (code int32, reason string) {
	switch {
	case p.Exit != nil:
		code = *p.Exit
	case p.Signal != 0:
		code = 128 + p.Signal
	}
	return code, reasonFor(code, p.Reason)
}

func reasonFor(code int32, given string) string {
	switch {
	case given == "-":
		return ""
	case given != "":
		return given
	case code == 0:
		return "Completed"
	}
	return "Error"
}

func parsePlan(text string) (plan, error) {
	var p plan
	return p, strict(text, &p)
}

// strict decodes JSON and refuses fields it does not know, so that a typing
// error in a test does not pass for a plan.
func strict(text string, into any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// canned is a state of a whole pod: plans for its first main container, for
// its other containers and for its init containers, and what is laid over the
// status.
type canned struct {
	first  string
	others string
	init   string
	status string
}

// phases are the values of cplane.test/phase. All of them stand still, so
// that a table of them can be compared; a plan makes pods that move.
var phases = map[string]canned{
	"running":      {},
	"not-ready":    {first: `{"ready":false}`},
	"restarted":    {first: `{"restarts":3,"last":{"exit":1,"ago":"1h"}}`},
	"unready-all":  {first: `{"ready":false}`, others: `{"ready":false}`},
	"creating":     {first: `{"waiting":"ContainerCreating"}`, others: `{"waiting":"ContainerCreating"}`},
	"image-pull":   {first: `{"waiting":"ErrImagePull","message":"failed to pull and unpack image: not found"}`},
	"bad-image":    {first: `{"waiting":"InvalidImageName","message":"couldn't parse image name"}`},
	"never-pulled": {first: `{"waiting":"ErrImageNeverPull","message":"image is not present with pull policy of Never"}`},
	"image-pull-backoff": {
		first: `{"waiting":"ImagePullBackOff","message":"Back-off pulling image"}`,
	},
	"config-error": {first: `{"waiting":"CreateContainerConfigError","message":"configmap \"vllm\" not found"}`},
	"create-error": {first: `{"waiting":"CreateContainerError","message":"context deadline exceeded"}`},
	"run-error": {
		first: `{"waiting":"RunContainerError","restarts":2,"last":{"exit":128,"reason":"StartError","ago":"1m"}}`,
	},
	"crash-loop": {
		first: `{"waiting":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container","restarts":5,"last":{"exit":1,"ago":"2m"}}`,
	},
	"oom-loop": {
		first: `{"waiting":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container","restarts":7,"last":{"exit":137,"reason":"OOMKilled","ago":"3m"}}`,
	},
	"complete":       {first: `{"exit":0,"hold":true}`, others: `{"exit":0,"hold":true}`},
	"error":          {first: `{"exit":1,"hold":true}`, others: `{"exit":1,"hold":true}`},
	"oom":            {first: `{"exit":137,"reason":"OOMKilled","hold":true}`},
	"start-error":    {first: `{"exit":128,"reason":"StartError","exitMessage":"exec: \"vllm\": executable file not found in $PATH","hold":true}`},
	"cannot-run":     {first: `{"exit":127,"reason":"ContainerCannotRun","hold":true}`},
	"exit-code":      {first: `{"exit":3,"reason":"-","hold":true}`},
	"signal":         {first: `{"signal":9,"reason":"-","hold":true}`},
	"lost-container": {first: `{"exit":137,"reason":"ContainerStatusUnknown","hold":true}`},
	"one-complete":   {first: `{"exit":0,"hold":true}`},
	"one-failed":     {first: `{"exit":1,"hold":true}`},
	"last-failed":    {others: `{"exit":1,"hold":true}`},
	"complete-and-error": {
		first: `{"exit":0,"hold":true}`, others: `{"exit":2,"hold":true}`,
	},
	"init-wait":            {init: `{}`},
	"init-crash-loop":      {init: `{"waiting":"CrashLoopBackOff","restarts":4,"last":{"exit":1,"ago":"90s"}}`},
	"init-error":           {init: `{"exit":1,"hold":true}`},
	"init-exit-code":       {init: `{"exit":3,"reason":"-","hold":true}`},
	"init-signal":          {init: `{"signal":9,"reason":"-","hold":true}`},
	"init-oom":             {init: `{"exit":137,"reason":"OOMKilled","hold":true}`},
	"init-image-pull":      {init: `{"waiting":"ImagePullBackOff"}`},
	"init-initializing":    {init: `{"waiting":"PodInitializing"}`},
	"sidecar-waiting":      {init: `{"started":false}`},
	"stuck-terminating":    {first: `{"stopAfter":"never"}`},
	"evicted":              {status: `{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1Gi.","containerStatuses":null,"initContainerStatuses":null}`},
	"out-of-gpu":           {status: `{"phase":"Failed","reason":"OutOfnvidia.com/gpu","message":"Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 8, used: 8, capacity: 8","containerStatuses":null,"initContainerStatuses":null}`},
	"unexpected-admission": {status: `{"phase":"Failed","reason":"UnexpectedAdmissionError","message":"Allocate failed due to device plugin GetPreferredAllocation rpc failed, which is unexpected","containerStatuses":null,"initContainerStatuses":null}`},
	"topology-error":       {status: `{"phase":"Failed","reason":"TopologyAffinityError","message":"Resources cannot be allocated with Topology locality","containerStatuses":null,"initContainerStatuses":null}`},
	"node-lost":            {status: `{"reason":"NodeLost","message":"Node which was running the pod is unresponsive"}`},
	"node-shutdown":        {status: `{"phase":"Failed","reason":"NodeShutdown","message":"Pod was terminated in response to imminent node shutdown.","containerStatuses":null,"initContainerStatuses":null}`},
	"preempting":           {status: `{"phase":"Failed","reason":"Preempting","message":"Preempted in order to admit critical pod","containerStatuses":null,"initContainerStatuses":null}`},
	"deadline":             {status: `{"phase":"Failed","reason":"DeadlineExceeded","message":"Pod was active on the node longer than the specified deadline","containerStatuses":null,"initContainerStatuses":null}`},
	"unknown":              {status: `{"phase":"Unknown","containerStatuses":null,"initContainerStatuses":null}`},
	"no-status":            {status: `{"phase":"Pending","containerStatuses":null,"initContainerStatuses":null}`},
}

// plansFor reads what the pod's annotations say about each of its containers.
func plansFor(pod *v1.Pod) (map[string]plan, error) {
	plans := map[string]plan{}
	canned := phases["running"]
	if name := pod.Annotations[annotationPhase]; name != "" {
		known := false
		if canned, known = phases[name]; !known {
			return nil, fmt.Errorf("no phase is called %q", name)
		}
	}
	set := func(container, cannedPlan, fallback string) error {
		text := fallback
		if cannedPlan != "" {
			text = cannedPlan
		}
		if all := pod.Annotations[annotationPlan]; all != "" && fallback == "{}" {
			text = all
		}
		if own := pod.Annotations[annotationPlan+"."+container]; own != "" {
			text = own
		}
		p, err := parsePlan(text)
		if err != nil {
			return fmt.Errorf("the plan of container %q: %w", container, err)
		}
		plans[container] = p
		return nil
	}
	for i, c := range pod.Spec.InitContainers {
		// Init containers finish by default, sidecars run; a canned state is
		// that of the last of them.
		fallback, own := `{"exit":0}`, ""
		if isSidecar(&pod.Spec.InitContainers[i]) {
			fallback = `{"ready":true}`
		}
		if i == len(pod.Spec.InitContainers)-1 {
			own = canned.init
		}
		if err := set(c.Name, own, fallback); err != nil {
			return nil, err
		}
	}
	for i, c := range pod.Spec.Containers {
		own := canned.others
		if i == 0 {
			own = canned.first
		}
		if err := set(c.Name, own, "{}"); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

func isSidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// logPlan says where the lines of a container's log come from.
type logPlan struct {
	File     string  `json:"file"`     // each of its lines, and those added later
	Generate int     `json:"generate"` // so many numbered lines
	Prefix   string  `json:"prefix"`   // before each generated line
	Rate     float64 `json:"rate"`     // lines a second; 0: as fast as it goes
	Stream   string  `json:"stream"`   // stdout (default) or stderr
	Format   string  `json:"format"`   // plain (default), or cri: lines carry stamps
	MaxSize  int64   `json:"maxSize"`  // rotates the file when it is larger
	MaxFiles int     `json:"maxFiles"` // keeps so many, 5 by default
}

// logFor reads the log plan of one container.
func logFor(pod *v1.Pod, container string) (logPlan, error) {
	var l logPlan
	for _, name := range []string{annotationFile, annotationFile + "." + container} {
		if file := pod.Annotations[name]; file != "" {
			l.File = file
		}
	}
	for _, name := range []string{annotationLog, annotationLog + "." + container} {
		if text := pod.Annotations[name]; text != "" {
			if err := strict(text, &l); err != nil {
				return l, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if l.MaxFiles == 0 {
		l.MaxFiles = 5
	}
	if l.Stream == "" {
		l.Stream = "stdout"
	}
	return l, nil
}

// fill replaces {pod}, {namespace}, {container}, {restart} and {index} in
// paths that come from a pod template.
func fill(text string, pod *v1.Pod, container string, restart int32) string {
	index := pod.Labels["apps.kubernetes.io/pod-index"]
	if index == "" {
		index = pod.Labels["batch.kubernetes.io/job-completion-index"]
	}
	return strings.NewReplacer(
		"{pod}", pod.Name,
		"{namespace}", pod.Namespace,
		"{container}", container,
		"{restart}", fmt.Sprint(restart),
		"{index}", index,
	).Replace(text)
}
