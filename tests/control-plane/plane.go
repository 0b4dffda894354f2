package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/component-base/version"
)

// options is what "cplane up" can be told.
type options struct {
	dir       string
	nodes     int
	gpus      int
	users     []string
	crds      bool
	logReader string
	keep      bool
	stdin     bool
	apiserver []string
}

// plane is a whole running control plane.
type plane struct {
	options
	started time.Time
	ca      *authority
	signer  *accountSigner
	l       *launcher
	parts   map[string]*component
	proxy   *proxy
	older   net.Listener
	egress  *egress
	kubelet *kubelet
	client  kubernetes.Interface
	config  *rest.Config
	direct  string
	etcd    string
	tokens  map[string]string
	files   map[string]string
}

const (
	etcdName      = "etcd"
	apiserverName = "kube-apiserver"
	managerName   = "kube-controller-manager"
	schedulerName = "kube-scheduler"
)

// auditPolicy logs every request with its body, except those of the control
// plane's own parts: the audit log is there to show what a client under test
// did.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "cplane:kubelet", "cplane:setup"]
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
- level: None
  users: ["system:anonymous"]
  nonResourceURLs: ["/readyz", "/livez", "/healthz"]
- level: Request
`

// startPlane brings everything up and returns once pods can be scheduled.
func startPlane(ctx context.Context, o options) (*plane, error) {
	p := &plane{
		options: o,
		started: time.Now(),
		l:       newLauncher(),
		parts:   map[string]*component{},
		tokens:  map[string]string{},
		files:   map[string]string{},
	}
	if !p.keep {
		if err := p.l.reaper(p.dir); err != nil {
			return p, err
		}
	}
	steps := []func(context.Context) error{
		p.keys, p.startEtcd, p.startAPIServer, p.startRest, p.startKubelet, p.install, p.waitSettled,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *plane) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

// keys makes the certificates, the tokens and the users' kubeconfigs.
func (p *plane) keys(context.Context) (err error) {
	if p.ca, err = newAuthority(p.path("pki")); err != nil {
		return err
	}
	if p.signer, err = newAccountSigner(p.path("pki")); err != nil {
		return err
	}
	if _, err = p.ca.issue("server", "cplane", nil, 24*time.Hour); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	p.direct = "https://" + address
	if p.proxy, err = newProxy(address); err != nil {
		return err
	}
	if p.older, err = newOlder(p.direct, p.ca.caFile()); err != nil {
		return err
	}
	if err := os.MkdirAll(p.path("kubeconfig"), 0o700); err != nil {
		return err
	}

	// The control plane's own parts know the API server's own port.
	for _, own := range []struct{ name, user, group string }{
		// All controllers share one client, so it has the rights of all.
		{managerName, "system:kube-controller-manager", "system:masters"},
		{schedulerName, "system:kube-scheduler", ""},
		{"kubelet", "cplane:kubelet", "system:masters"},
		{"setup", "cplane:setup", "system:masters"},
	} {
		if _, err := p.certificateConfig(own.name, own.user, []string{own.group}, 24*time.Hour, p.direct); err != nil {
			return err
		}
	}

	var table strings.Builder
	users := append([]string{"admin", "observer", "nobody"}, p.users...)
	for _, user := range users {
		token := randomHex(16)
		groups := "cplane:users"
		if user == "admin" {
			groups = "system:masters"
		}
		fmt.Fprintf(&table, "%s,%s,%s-uid,%s\n", token, user, user, groups)
		p.tokens[user] = token
		if _, err := p.tokenConfig(user, token); err != nil {
			return err
		}
	}
	if err := os.WriteFile(p.path("tokens.csv"), []byte(table.String()), 0o600); err != nil {
		return err
	}
	// Two users who are turned away: a token and a certificate that have ended.
	expired, err := p.signer.token("default", "default", "0", -time.Hour)
	if err != nil {
		return err
	}
	p.tokens["expired"] = expired
	if _, err := p.tokenConfig("expired", expired); err != nil {
		return err
	}
	_, err = p.certificateConfig("expired-cert", "expired-cert", nil, -time.Hour, p.proxy.url())
	return err
}

// tokenConfig writes the kubeconfig of a user with a token.
func (p *plane) tokenConfig(user, token string) (string, error) {
	return p.writeConfig(user, p.proxy.url(), &clientapi.AuthInfo{Token: token})
}

// certificateConfig writes the kubeconfig of a user with a certificate.
func (p *plane) certificateConfig(file, user string, groups []string, life time.Duration, server string) (string, error) {
	issued, err := p.ca.issue("client-"+file, user, groups, life)
	if err != nil {
		return "", err
	}
	return p.writeConfig(file, server, &clientapi.AuthInfo{ClientCertificate: issued.cert, ClientKey: issued.key})
}

func (p *plane) writeConfig(name, server string, auth *clientapi.AuthInfo) (string, error) {
	authority, err := os.ReadFile(p.ca.caFile())
	if err != nil {
		return "", err
	}
	config := clientapi.Config{
		Clusters:       map[string]*clientapi.Cluster{"cplane": {Server: server, CertificateAuthorityData: authority}},
		AuthInfos:      map[string]*clientapi.AuthInfo{name: auth},
		Contexts:       map[string]*clientapi.Context{"cplane": {Cluster: "cplane", AuthInfo: name, Namespace: "default"}},
		CurrentContext: "cplane",
	}
	file := p.path("kubeconfig", name+".yaml")
	if err := clientcmd.WriteToFile(config, file); err != nil {
		return "", err
	}
	p.files[name] = file
	return file, nil
}

func (p *plane) component(name string, args ...string) *component {
	c := &component{name: name, args: args, log: p.path("log", name+".log"), l: p.l}
	p.parts[name] = c
	return c
}

func (p *plane) startEtcd(context.Context) error {
	client, err := freePort()
	if err != nil {
		return err
	}
	peer, err := freePort()
	if err != nil {
		return err
	}
	p.etcd = fmt.Sprintf("http://127.0.0.1:%d", client)
	peers := fmt.Sprintf("http://127.0.0.1:%d", peer)
	return p.component(etcdName,
		"--name=cplane",
		"--data-dir="+p.path("etcd"),
		"--listen-client-urls="+p.etcd,
		"--advertise-client-urls="+p.etcd,
		"--listen-peer-urls="+peers,
		"--initial-advertise-peer-urls="+peers,
		"--initial-cluster=cplane="+peers,
		"--unsafe-no-fsync",
		"--log-level=warn",
	).start()
}

func (p *plane) startAPIServer(ctx context.Context) error {
	if err := os.WriteFile(p.path("audit-policy.yaml"), []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	issued, err := p.ca.issue("apiserver-kubelet", "cplane:apiserver", []string{"system:masters"}, 24*time.Hour)
	if err != nil {
		return err
	}
	var selector string
	if p.egress, selector, err = newEgress(p); err != nil {
		return err
	}
	args := []string{
		"--bind-address=127.0.0.1",
		"--secure-port=" + p.direct[strings.LastIndex(p.direct, ":")+1:],
		// No component dials this one, but it must not be loopback.
		"--advertise-address=192.0.2.1",
		"--endpoint-reconciler-type=none",
		"--etcd-servers=" + p.etcd,
		"--client-ca-file=" + p.ca.caFile(),
		"--tls-cert-file=" + p.path("pki", "server.crt"),
		"--tls-private-key-file=" + p.path("pki", "server.key"),
		"--token-auth-file=" + p.path("tokens.csv"),
		"--authorization-mode=Node,RBAC",
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + p.signer.public,
		"--service-account-signing-key-file=" + p.signer.private,
		"--service-cluster-ip-range=10.96.0.0/16",
		"--allow-privileged=true",
		// Asked to end, it would wait a minute for those who watch.
		"--shutdown-watch-termination-grace-period=2s",
		"--kubelet-certificate-authority=" + p.ca.caFile(),
		"--kubelet-client-certificate=" + issued.cert,
		"--kubelet-client-key=" + issued.key,
		"--kubelet-preferred-address-types=Hostname",
		"--egress-selector-config-file=" + selector,
		"--audit-policy-file=" + p.path("audit-policy.yaml"),
		"--audit-log-path=" + p.path("audit.log"),
		"--audit-log-maxsize=10000",
	}
	if err := p.component(apiserverName, append(args, p.apiserver...)...).start(); err != nil {
		return err
	}
	if p.config, err = clientcmd.BuildConfigFromFlags("", p.files["setup"]); err != nil {
		return err
	}
	p.config.QPS = -1
	if p.client, err = kubernetes.NewForConfig(p.config); err != nil {
		return err
	}
	return p.waitAPIServer(ctx)
}

// waitAPIServer returns once the API server calls itself ready.
func (p *plane) waitAPIServer(ctx context.Context) error {
	return p.wait(ctx, apiserverName, func() error {
		return ready(ctx, p.direct+"/readyz")
	})
}

// ready asks a component's own port; what is asked there is open to anybody.
func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}

// wait polls check until it succeeds, the component dies or time is up.
func (p *plane) wait(ctx context.Context, name string, check func() error) error {
	end := time.Now().Add(90 * time.Second)
	for {
		err := check()
		if err == nil {
			return nil
		}
		c := p.parts[name]
		if c != nil && c.pid() == 0 {
			return fmt.Errorf("%s has ended: %s", name, c.tail())
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startRest starts the controller manager and the scheduler.
func (p *plane) startRest(ctx context.Context) error {
	common := func(name string, port int) []string {
		return []string{
			"--kubeconfig=" + p.files[name],
			"--leader-elect=false",
			"--bind-address=127.0.0.1",
			fmt.Sprintf("--secure-port=%d", port),
			"--tls-cert-file=" + p.path("pki", "server.crt"),
			"--tls-private-key-file=" + p.path("pki", "server.key"),
			"--kube-api-qps=600",
			"--kube-api-burst=1200",
		}
	}
	ports := map[string]int{}
	for _, name := range []string{managerName, schedulerName} {
		port, err := freePort()
		if err != nil {
			return err
		}
		ports[name] = port
	}
	manager := append(common(managerName, ports[managerName]),
		"--root-ca-file="+p.ca.caFile(),
		"--service-account-private-key-file="+p.signer.private,
	)
	if err := p.component(managerName, manager...).start(); err != nil {
		return err
	}
	return p.component(schedulerName, common(schedulerName, ports[schedulerName])...).start()
}

func (p *plane) startKubelet(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", p.files["kubelet"])
	if err != nil {
		return err
	}
	p.kubelet, err = newKubelet(ctx, p, config)
	return err
}

func (p *plane) install(ctx context.Context) error {
	if !p.crds {
		return nil
	}
	return installKinds(ctx, p.config)
}

// waitSettled waits for what a first pod needs: the account it runs as, a
// node, and a scheduler that has seen both.
func (p *plane) waitSettled(ctx context.Context) error {
	err := p.wait(ctx, managerName, func() error {
		_, err := p.client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if err != nil {
		return err
	}
	// The probe lives where no test looks.
	pods := p.client.CoreV1().Pods("kube-system")
	probe := probePod()
	err = p.wait(ctx, managerName, func() error {
		_, err := pods.Create(ctx, probe, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	err = p.wait(ctx, schedulerName, func() error {
		pod, err := pods.Get(ctx, probe.Name, metav1.GetOptions{})
		if err == nil && pod.Status.Phase != v1.PodRunning {
			err = fmt.Errorf("the first pod does not run")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := pods.Delete(ctx, probe.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return p.wait(ctx, apiserverName, func() error {
		if _, err := pods.Get(ctx, probe.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the first pod is not gone")
		}
		if !p.crds {
			return nil
		}
		return kindsServed(ctx, p.config)
	})
}

// probePod is the first pod of every control plane.
func probePod() *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "cplane-probe", Annotations: map[string]string{annotationEvents: "off"}},
		Spec:       v1.PodSpec{Containers: []v1.Container{{Name: "probe", Image: "probe"}}},
	}
}

// restartAPIServer ends the API server, leaves it down for a while and starts
// it again on the same port.
func (p *plane) restartAPIServer(ctx context.Context, down time.Duration, graceful bool) error {
	c := p.parts[apiserverName]
	if err := c.stop(graceful); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(down):
	}
	if err := c.start(); err != nil {
		return err
	}
	return p.waitAPIServer(ctx)
}

// stop ends everything; the order keeps the parts from complaining.
func (p *plane) stop() {
	if p.kubelet != nil {
		p.kubelet.stop()
	}
	for _, name := range []string{schedulerName, managerName, apiserverName, etcdName} {
		if c := p.parts[name]; c != nil {
			_ = c.stop(false)
		}
	}
	if p.proxy != nil {
		p.proxy.listener.Close()
		p.proxy.cut(true)
	}
	if p.older != nil {
		p.older.Close()
	}
	if p.egress != nil {
		p.egress.listener.Close()
	}
	if !p.keep {
		// The reaper tries again, should this fail.
		_ = os.RemoveAll(p.dir)
	}
}

// report is the line printed when everything is up.
func (p *plane) report(control string) map[string]any {
	pids := map[string]int{"cplane": os.Getpid()}
	logs := map[string]string{}
	for name, c := range p.parts {
		pids[name] = c.pid()
		logs[name] = c.log
	}
	kubeconfigs := map[string]string{}
	for name, file := range p.files {
		switch name {
		case managerName, schedulerName, "kubelet", "setup":
		default:
			kubeconfigs[name] = file
		}
	}
	return map[string]any{
		"ready":      true,
		"version":    version.Get().GitVersion,
		"dir":        p.dir,
		"server":     p.proxy.url(),
		"direct":     p.direct,
		"v4":         "http://" + p.older.Addr().String(),
		"ca":         p.ca.caFile(),
		"kubeconfig": kubeconfigs,
		"tokens":     p.tokens,
		"audit_log":  p.path("audit.log"),
		"exec_log":   p.path("exec.log"),
		"control":    control,
		"nodes":      p.kubelet.nodeNames(),
		"pids":       pids,
		"logs":       logs,
		"startup_ms": time.Since(p.started).Milliseconds(),
	}
}
