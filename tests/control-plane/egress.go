package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// egress carries what the API server sends to nodes and pods, as it does where
// the control plane has no route to the pod network. Addresses of nodes are
// dialled as they are; those of pods are made up, and lead to the ports of this
// machine that cplane.test/ports gives.
type egress struct {
	p        *plane
	listener net.Listener
}

const egressConfig = `apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport:
      uds: {udsName: %s}
`

// newEgress listens and writes the file that sends the API server there.
func newEgress(p *plane) (*egress, string, error) {
	l, err := net.Listen("unix", p.path("egress.sock"))
	if err != nil {
		return nil, "", err
	}
	e := &egress{p: p, listener: l}
	go e.accept()
	file := p.path("egress.yaml")
	text := fmt.Sprintf(egressConfig, strconv.Quote(p.path("egress.sock")))
	return e, file, os.WriteFile(file, []byte(text), 0o600)
}

func (e *egress) accept() {
	for {
		c, err := e.listener.Accept()
		if err != nil {
			return
		}
		go e.serve(c.(*net.UnixConn))
	}
}

// serve answers one CONNECT and then only carries bytes.
func (e *egress) serve(client *net.UnixConn) {
	defer client.Close()
	reader := bufio.NewReader(client)
	request, err := http.ReadRequest(reader)
	if err != nil || request.Method != http.MethodConnect {
		return
	}
	target, err := e.target(request.RequestURI)
	var server net.Conn
	if err == nil {
		server, err = net.Dial("tcp", target)
	}
	if err != nil {
		fmt.Fprint(client, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer server.Close()
	if _, err := fmt.Fprint(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(server, reader)
		_ = server.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.CloseWrite()
		done <- struct{}{}
	}()
	<-done
	<-done
}

// target is where an address that the API server dials really is.
func (e *egress) target(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
		return address, nil
	}
	if e.p.kubelet != nil {
		if local, found := e.p.kubelet.portAt(host, port); found {
			return net.JoinHostPort("127.0.0.1", local), nil
		}
	}
	return "", fmt.Errorf("nothing listens at %s", address)
}

// portAt is the port of this machine that stands for a port of the pod with
// this address.
func (k *kubelet) portAt(ip, port string) (string, bool) {
	k.mu.Lock()
	pods := make([]*pod, 0, len(k.pods))
	for _, p := range k.pods {
		pods = append(pods, p)
	}
	k.mu.Unlock()
	for _, p := range pods {
		p.mu.Lock()
		own, table := p.ip, p.object.Annotations[annotationPorts]
		p.mu.Unlock()
		if own != ip {
			continue
		}
		if local, found := mapped(table, port); found {
			return local, true
		}
	}
	return "", false
}

// mapped looks a port up in the value of cplane.test/ports.
func mapped(table, port string) (string, bool) {
	for entry := range strings.SplitSeq(table, ",") {
		from, to, found := strings.Cut(strings.TrimSpace(entry), "=")
		if found && from == port {
			return to, true
		}
	}
	return "", false
}
