package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
)

// heartbeat is how often a node renews its lease; after 40 seconds without,
// the node controller calls it unknown.
const heartbeat = 10 * time.Second

// kubelet plays the kubelet of all nodes at once: it registers them, keeps
// them alive, drives the pods bound to them, and serves their logs and exec.
type kubelet struct {
	p      *plane
	ctx    context.Context
	end    context.CancelFunc
	client kubernetes.Interface
	server *http.Server
	port   int32
	execs  *execs

	broadcaster record.EventBroadcaster
	recorders   map[string]record.EventRecorder

	mu    sync.Mutex
	nodes []string
	index map[string]int
	down  map[string]bool
	pods  map[types.UID]*pod
	names map[string]*pod
	runs  map[string]*run
	ips   int
	work  sync.WaitGroup
}

func newKubelet(ctx context.Context, p *plane, config *rest.Config) (*kubelet, error) {
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	k := &kubelet{
		p: p, client: client,
		index: map[string]int{}, down: map[string]bool{},
		pods: map[types.UID]*pod{}, names: map[string]*pod{}, runs: map[string]*run{},
		recorders: map[string]record.EventRecorder{},
	}
	k.ctx, k.end = context.WithCancel(ctx)
	if k.execs, err = newExecs(p.path("exec.log")); err != nil {
		return nil, err
	}
	if err := k.serve(); err != nil {
		return nil, err
	}
	k.broadcaster = record.NewBroadcaster(record.WithContext(k.ctx))
	k.broadcaster.StartRecordingToSink(&corev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	for i := range p.nodes {
		name := fmt.Sprintf("gpu-%d", i)
		k.nodes = append(k.nodes, name)
		k.index[name] = i
		k.recorders[name] = k.broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: name})
		if err := k.register(name); err != nil {
			return nil, err
		}
	}
	k.renew()
	go k.beat()
	return k, k.watch()
}

func (k *kubelet) nodeNames() []string { return k.nodes }

func (k *kubelet) nodeAddress(name string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := k.index[name]
	return fmt.Sprintf("10.77.%d.%d", i/250, i%250+1)
}

// address gives a pod its IP.
func (k *kubelet) address(object *v1.Pod) string {
	if ip := object.Annotations[annotationIP]; ip != "" {
		return ip
	}
	if object.Spec.HostNetwork {
		return k.nodeAddress(object.Spec.NodeName)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ips++
	return fmt.Sprintf("10.%d.%d.%d", 88+k.ips/(250*250), k.ips/250%250, k.ips%250+1)
}

func (k *kubelet) register(name string) error {
	capacity := v1.ResourceList{
		v1.ResourceCPU:              resource.MustParse("192"),
		v1.ResourceMemory:           resource.MustParse("2Ti"),
		v1.ResourceEphemeralStorage: resource.MustParse("7Ti"),
		v1.ResourcePods:             resource.MustParse("1000"),
		"nvidia.com/gpu":            *resource.NewQuantity(int64(k.p.gpus), resource.DecimalSI),
	}
	version := "v0.0.0"
	if info, err := k.client.Discovery().ServerVersion(); err == nil {
		version = info.GitVersion
	}
	now := metav1.Now()
	condition := func(kind v1.NodeConditionType, status v1.ConditionStatus, reason, message string) v1.NodeCondition {
		return v1.NodeCondition{
			Type: kind, Status: status, Reason: reason, Message: message,
			LastHeartbeatTime: now, LastTransitionTime: now,
		}
	}
	node := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				"kubernetes.io/hostname":           name,
				"kubernetes.io/os":                 "linux",
				"kubernetes.io/arch":               "amd64",
				"node.kubernetes.io/instance-type": "cplane.8gpu",
				"topology.kubernetes.io/zone":      fmt.Sprintf("zone-%c", 'a'+k.index[name]%3),
				"nvidia.com/gpu.present":           "true",
				"nvidia.com/gpu.product":           "NVIDIA-H200",
				"nvidia.com/gpu.count":             fmt.Sprint(k.p.gpus),
				"nvidia.com/gpu.memory":            "143771",
			},
		},
	}
	status := v1.NodeStatus{
		Capacity:    capacity,
		Allocatable: capacity,
		Conditions: []v1.NodeCondition{
			condition(v1.NodeMemoryPressure, v1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
			condition(v1.NodeDiskPressure, v1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
			condition(v1.NodePIDPressure, v1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
			condition(v1.NodeReady, v1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
		},
		// The API server dials the host name: all kubelets are on loopback,
		// on one port, while pods see the addresses of a cluster.
		Addresses: []v1.NodeAddress{
			{Type: v1.NodeInternalIP, Address: k.nodeAddress(name)},
			{Type: v1.NodeHostName, Address: "127.0.0.1"},
		},
		DaemonEndpoints: v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: k.port}},
		NodeInfo: v1.NodeSystemInfo{
			MachineID: name, SystemUUID: name, BootID: name,
			KernelVersion: "6.8.0", OSImage: "cplane", OperatingSystem: "linux", Architecture: "amd64",
			ContainerRuntimeVersion: "containerd://2.1.0", KubeletVersion: version,
		},
	}
	nodes := k.client.CoreV1().Nodes()
	made, err := nodes.Create(k.ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = status
	_, err = nodes.UpdateStatus(k.ctx, made, metav1.UpdateOptions{})
	return err
}

// beat renews the nodes' leases until the end.
func (k *kubelet) beat() {
	for sleep(k.ctx, heartbeat) {
		k.renew()
	}
}

func (k *kubelet) renew() {
	leases := k.client.CoordinationV1().Leases("kube-node-lease")
	for _, name := range k.nodes {
		if k.isDown(name) {
			continue
		}
		holder, seconds, now := name, int32(40), metav1.NowMicro()
		lease := &coordination.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       coordination.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now},
		}
		patch, err := json.Marshal(map[string]any{"spec": lease.Spec})
		if err != nil {
			continue
		}
		_, err = leases.Patch(k.ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			// The namespace comes a moment after the API server: the next
			// beat tries again.
			_, _ = leases.Create(k.ctx, lease, metav1.CreateOptions{})
		}
	}
}

func (k *kubelet) isDown(node string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.down[node]
}

// setDown makes a node's kubelet fall silent, or come back.
func (k *kubelet) setDown(node string, on bool) error {
	k.mu.Lock()
	if _, known := k.index[node]; !known {
		k.mu.Unlock()
		return fmt.Errorf("no node is called %q", node)
	}
	k.down[node] = on
	var wake []*pod
	for _, p := range k.pods {
		wake = append(wake, p)
	}
	k.mu.Unlock()
	if on {
		return nil
	}
	for _, p := range wake {
		p.poke()
	}
	k.renew()
	return k.freshen(node)
}

// freshen tells the API that a node is well again.
func (k *kubelet) freshen(name string) error {
	node, err := k.client.CoreV1().Nodes().Get(k.ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	now := metav1.Now()
	for i := range node.Status.Conditions {
		c := &node.Status.Conditions[i]
		c.LastHeartbeatTime = now
		want := v1.ConditionFalse
		if c.Type == v1.NodeReady {
			want = v1.ConditionTrue
		}
		if c.Status == v1.ConditionUnknown {
			c.Status, c.LastTransitionTime = want, now
		}
	}
	_, err = k.client.CoreV1().Nodes().UpdateStatus(k.ctx, node, metav1.UpdateOptions{})
	return err
}

// watch follows the pods that are bound to a node.
func (k *kubelet) watch() error {
	factory := informers.NewSharedInformerFactoryWithOptions(k.client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "spec.nodeName!=" }))
	informer := factory.Core().V1().Pods().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { k.see(o.(*v1.Pod)) },
		UpdateFunc: func(_, o any) { k.see(o.(*v1.Pod)) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			k.forget(o.(*v1.Pod))
		},
	})
	if err != nil {
		return err
	}
	factory.Start(k.ctx.Done())
	if !cache.WaitForCacheSync(k.ctx.Done(), informer.HasSynced) {
		return k.ctx.Err()
	}
	return nil
}

func key(namespace, name string) string { return namespace + "/" + name }

func (k *kubelet) see(object *v1.Pod) {
	k.mu.Lock()
	_, ours := k.index[object.Spec.NodeName]
	p := k.pods[object.UID]
	k.mu.Unlock()
	if !ours {
		return
	}
	if p != nil {
		p.take(object)
		p.poke()
		return
	}
	p = newPod(k, object)
	k.mu.Lock()
	k.pods[object.UID] = p
	k.names[key(object.Namespace, object.Name)] = p
	k.mu.Unlock()
	k.work.Add(1)
	go func() {
		defer k.work.Done()
		p.loop()
	}()
}

func (k *kubelet) forget(object *v1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pods[object.UID]
	if p == nil {
		return
	}
	delete(k.pods, object.UID)
	if name := key(object.Namespace, object.Name); k.names[name] == p {
		delete(k.names, name)
	}
	p.end()
}

// byName finds a pod by "namespace/name".
func (k *kubelet) byName(name string) *pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.names[name]
}

func (k *kubelet) remember(r *run) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.runs[r.id] = r
}

// drop forgets a run whose log is gone.
func (k *kubelet) drop(r *run) {
	if r == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.runs, r.id)
}

func (k *kubelet) recall(id string) *run {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.runs[id]
}

// publish writes the status where it differs from what the API has, and
// removes a deleted pod once its containers are down.
func (p *pod) publish(status v1.PodStatus, gone bool) error {
	p.mu.Lock()
	object := p.object
	p.mu.Unlock()
	pods := p.k.client.CoreV1().Pods(object.Namespace)
	if !same(object.Status, status) {
		next := object.DeepCopy()
		next.Status = status
		updated, err := pods.UpdateStatus(p.ctx, next, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			if apierrors.IsConflict(err) {
				// The newer object is on its way; until then try with it.
				if fresh, gerr := pods.Get(p.ctx, object.Name, metav1.GetOptions{}); gerr == nil && fresh.UID == object.UID {
					p.take(fresh)
				}
			} else if p.ctx.Err() == nil {
				p.k.complain("the status of %s/%s: %v", object.Namespace, object.Name, err)
			}
			return err
		}
		p.take(updated)
	}
	if !gone {
		return nil
	}
	zero := int64(0)
	err := pods.Delete(p.ctx, object.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &object.UID},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// take remembers the newest object, whether a watch or an answer brought it.
func (p *pod) take(object *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if revision(object) > revision(p.object) {
		p.object = object
	}
}

func revision(object *v1.Pod) uint64 {
	n, _ := strconv.ParseUint(object.ResourceVersion, 10, 64)
	return n
}

func same(a, b v1.PodStatus) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && string(left) == string(right)
}

func (k *kubelet) event(object *v1.Pod, e pendingEvent) {
	if r := k.recorders[object.Spec.NodeName]; r != nil {
		r.Event(object, e.kind, e.reason, e.message)
	}
}

func (k *kubelet) complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "cplane: "+format+"\n", args...)
}

// stop ends the nodes and all that runs in their pods.
func (k *kubelet) stop() {
	k.end()
	if k.server != nil {
		k.server.Close()
	}
	k.execs.killRun("")
	k.work.Wait()
	k.broadcaster.Shutdown()
}
