package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/util/flushwriter"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// idle and creation bound a streaming connection, as in the kubelet.
const (
	idle     = 4 * time.Hour
	creation = 30 * time.Second
)

// serve opens the kubelet's port. Only clients with a certificate of our own
// authority are let in: the API server has one.
func (k *kubelet) serve() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	k.port = int32(port)
	authority, err := os.ReadFile(k.p.ca.caFile())
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	certificate, err := tls.LoadX509KeyPair(k.p.path("pki", "server.crt"), k.p.path("pki", "server.key"))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.serveExec)
	mux.HandleFunc("/exec/{namespace}/{pod}/{uid}/{container}", k.serveExec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", k.serveAttach)
	mux.HandleFunc("/attach/{namespace}/{pod}/{uid}/{container}", k.serveAttach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", k.servePortForward)
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", k.servePortForward)
	errors, err := os.OpenFile(k.p.path("kubelet.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	k.server = &http.Server{
		Handler: mux,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    pool,
		},
		// Streams are upgraded connections: HTTP/1 only.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     log.New(errors, "", log.LstdFlags),
	}
	go func() { _ = k.server.ServeTLS(listener, "", "") }()
	return nil
}

// target finds the pod of a request, or answers in its place.
func (k *kubelet) target(w http.ResponseWriter, r *http.Request) *pod {
	p := k.byName(key(r.PathValue("namespace"), r.PathValue("pod")))
	if p == nil {
		fail(w, http.StatusNotFound, fmt.Errorf("pod %q does not exist", r.PathValue("pod")))
		return nil
	}
	if k.isDown(p.node) {
		panic(http.ErrAbortHandler)
	}
	return p
}

func fail(w http.ResponseWriter, code int, err error) {
	w.WriteHeader(code)
	_, _ = w.Write([]byte(err.Error()))
}

func (k *kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	p := k.target(w, r)
	if p == nil {
		return
	}
	name := r.PathValue("container")
	if p.find(name) == nil {
		fail(w, http.StatusNotFound, fmt.Errorf("container %q not found in pod %q", name, r.PathValue("pod")))
		return
	}
	query := r.URL.Query()
	q := reading{follow: query.Get("follow") == "true", stamps: query.Get("timestamps") == "true"}
	number := func(name string) *int64 {
		if n, err := strconv.ParseInt(query.Get(name), 10, 64); err == nil {
			return &n
		}
		return nil
	}
	q.tail, q.limit = number("tailLines"), number("limitBytes")
	if seconds := number("sinceSeconds"); seconds != nil {
		q.since = time.Now().Add(-time.Duration(*seconds) * time.Second)
	}
	if at, err := time.Parse(time.RFC3339, query.Get("sinceTime")); err == nil {
		q.since = at
	}
	id, err := p.logOf(name, query.Get("previous") == "true")
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	out := flushwriter.Wrap(w)
	// The answer begins before the log is looked for, as with the kubelet:
	// what goes wrong now is text in an answer of 200.
	if _, err := out.Write(nil); err != nil {
		return
	}
	life := p.lifeOf(id)
	if life == nil || life.log == nil {
		_, _ = fmt.Fprintf(out, "unable to retrieve container logs for %s", id)
		return
	}
	stdout, stderr := out, out
	switch query.Get("stream") {
	case "Stdout":
		stderr = nil
	case "Stderr":
		stdout = nil
	}
	if err := k.read(r.Context(), life, q, stdout, stderr); err != nil && r.Context().Err() == nil {
		_, _ = out.Write([]byte(err.Error()))
	}
}

// logOf tells which run of a container a request for its log means, in the
// kubelet's words where there is none.
func (p *pod) logOf(name string, previous bool) (string, error) {
	s := p.published(name)
	if s == nil {
		return "", fmt.Errorf("container %q in pod %q is not available", name, p.name)
	}
	last, now := s.LastTerminationState.Terminated, s.State
	switch {
	case previous && (last == nil || last.ContainerID == ""):
		return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, p.name)
	case previous:
		return last.ContainerID, nil
	case now.Running != nil:
		return s.ContainerID, nil
	case now.Terminated != nil && now.Terminated.ContainerID != "":
		return now.Terminated.ContainerID, nil
	case last != nil && last.ContainerID != "":
		return last.ContainerID, nil
	case last != nil || now.Terminated != nil:
		return "", fmt.Errorf("container %q in pod %q is terminated", name, p.name)
	case now.Waiting != nil && now.Waiting.Reason == "ErrImagePull":
		return "", fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", name, p.name)
	case now.Waiting != nil && now.Waiting.Reason == "ImagePullBackOff":
		return "", fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", name, p.name)
	case now.Waiting != nil:
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", name, p.name, now.Waiting.Reason)
	}
	return "", fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, p.name)
}

// published is the container's status as it stands in the pod's status now.
func (p *pod) published(name string) *v1.ContainerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status()
	for _, statuses := range [][]v1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses} {
		for i := range statuses {
			if statuses[i].Name == name {
				return &statuses[i]
			}
		}
	}
	return nil
}

// lifeOf finds a run by its ID, if its log is still there.
func (p *pod) lifeOf(id string) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.containers {
		for _, r := range []*run{c.run, c.previous} {
			if r != nil && r.id == id {
				return r
			}
		}
	}
	return nil
}

// current is the run of a container that runs.
func (p *pod) current(name string) *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.find(name); c != nil && c.stage == running {
		return c.run
	}
	return nil
}

// streamTarget is target for exec and attach: the container must run.
func (k *kubelet) streamTarget(w http.ResponseWriter, r *http.Request) (*remotecommand.Options, bool) {
	p := k.target(w, r)
	if p == nil {
		return nil, false
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return nil, false
	}
	if p.current(r.PathValue("container")) == nil {
		fail(w, http.StatusInternalServerError, fmt.Errorf("container not found (%q)", r.PathValue("container")))
		return nil, false
	}
	return options, true
}

func (k *kubelet) serveExec(w http.ResponseWriter, r *http.Request) {
	options, ok := k.streamTarget(w, r)
	if !ok {
		return
	}
	name := key(r.PathValue("namespace"), r.PathValue("pod"))
	remotecommand.ServeExec(w, r, k, name, r.PathValue("uid"), r.PathValue("container"),
		r.URL.Query()["command"], options, idle, creation, remotecommand.SupportedStreamingProtocols)
}

func (k *kubelet) serveAttach(w http.ResponseWriter, r *http.Request) {
	options, ok := k.streamTarget(w, r)
	if !ok {
		return
	}
	name := key(r.PathValue("namespace"), r.PathValue("pod"))
	remotecommand.ServeAttach(w, r, k, name, r.PathValue("uid"), r.PathValue("container"),
		options, idle, creation, remotecommand.SupportedStreamingProtocols)
}

func (k *kubelet) servePortForward(w http.ResponseWriter, r *http.Request) {
	if k.target(w, r) == nil {
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	name := key(r.PathValue("namespace"), r.PathValue("pod"))
	portforward.ServePortForward(w, r, k, name, r.PathValue("uid"), options, idle, creation, portforward.SupportedProtocols)
}
