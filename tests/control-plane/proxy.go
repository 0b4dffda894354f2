package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// proxy forwards TCP connections to the API server. Clients under test speak
// through it, so that their connections can be cut, refused or left hanging
// while the control plane's own parts go on undisturbed.
type proxy struct {
	target   string
	listener net.Listener

	mu      sync.Mutex
	links   map[*link]struct{}
	refuse  bool
	stalled chan struct{} // open while nothing is forwarded, nil otherwise
	total   int
}

// link is one client's connection and ours to the API server.
type link struct{ client, server *net.TCPConn }

func newProxy(target string) (*proxy, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	p := &proxy{target: target, listener: l, links: map[*link]struct{}{}}
	go p.accept()
	return p, nil
}

func (p *proxy) url() string { return "https://" + p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c.(*net.TCPConn))
	}
}

func (p *proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	p.total++
	refuse := p.refuse
	p.mu.Unlock()
	if refuse {
		abort(client)
		return
	}
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		// As with the server's own port: nobody there.
		abort(client)
		return
	}
	k := &link{client, conn.(*net.TCPConn)}
	p.mu.Lock()
	p.links[k] = struct{}{}
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); p.pump(k.server, k.client) }()
	go func() { defer both.Done(); p.pump(k.client, k.server) }()
	both.Wait()
	p.mu.Lock()
	delete(p.links, k)
	p.mu.Unlock()
	k.client.Close()
	k.server.Close()
}

// pump copies one direction until its end, and passes the end on.
func (p *proxy) pump(to, from *net.TCPConn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			p.wait()
			if _, werr := to.Write(buffer[:n]); werr != nil {
				from.Close()
				return
			}
		}
		if err == io.EOF {
			p.wait()
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func (p *proxy) wait() {
	p.mu.Lock()
	stalled := p.stalled
	p.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
}

// cut ends every connection: politely, or with a reset.
func (p *proxy) cut(reset bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.links {
		if reset {
			_ = k.client.SetLinger(0)
		}
		k.client.Close()
		k.server.Close()
	}
	return len(p.links)
}

func (p *proxy) setRefuse(on bool) {
	p.mu.Lock()
	p.refuse = on
	p.mu.Unlock()
	if on {
		p.cut(true)
	}
}

// setStall holds back all bytes in both directions, while connections stay
// open: what a client sees of a dead network.
func (p *proxy) setStall(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on == (p.stalled != nil) {
		return
	}
	if on {
		p.stalled = make(chan struct{})
		return
	}
	close(p.stalled)
	p.stalled = nil
}

func (p *proxy) counts() (open, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links), p.total
}

// after runs undo once the time has passed; a zero time means never.
func after(d time.Duration, undo func()) {
	if d > 0 {
		time.AfterFunc(d, undo)
	}
}

func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
