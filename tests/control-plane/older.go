package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
)

// newOlder listens for clients on plain HTTP and speaks to the API server for
// them as one that knows no exec protocol newer than v4: what stands behind a
// load balancer that was built for an older cluster.
func newOlder(direct, caFile string) (net.Listener, error) {
	target, err := url.Parse(direct)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	front := &httputil.ReverseProxy{
		// Upgrades need HTTP/1.1.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			const header = "Sec-Websocket-Protocol"
			if strings.Contains(r.In.Header.Get(header), "v4.channel.k8s.io") {
				r.Out.Header.Set(header, "v4.channel.k8s.io")
			}
		},
	}
	go func() { _ = http.Serve(l, front) }()
	return l, nil
}
