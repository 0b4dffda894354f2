package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the one certificate authority of a control plane: it signs the
// serving certificates, the clients' certificates and nothing else.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// pair names the two files of a certificate and its key.
type pair struct{ cert, key string }

func newAuthority(dir string) (*authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "cplane-ca"},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.Add(30 * 24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, cert: cert, key: key}
	if err := writePEM(a.caFile(), "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *authority) caFile() string { return filepath.Join(a.dir, "ca.crt") }

// issue signs a certificate good for serving on loopback and for a client
// called name in the given groups. A lifetime below zero gives one that has
// already ended.
func (a *authority) issue(file, name string, groups []string, life time.Duration) (pair, error) {
	p := pair{filepath.Join(a.dir, file+".crt"), filepath.Join(a.dir, file+".key")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return p, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    now.Add(-12 * time.Hour),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return p, err
	}
	if err := writePEM(p.cert, "CERTIFICATE", der); err != nil {
		return p, err
	}
	return p, writeKey(p.key, key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// issuer is what service account tokens name as their issuer and audience.
const issuer = "https://kubernetes.default.svc"

// accountSigner holds the key of service account tokens, so that a test can
// be given a token which ends in seconds: the token request API refuses
// anything below ten minutes.
type accountSigner struct {
	key     *ecdsa.PrivateKey
	private string
	public  string
}

func newAccountSigner(dir string) (*accountSigner, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &accountSigner{key, filepath.Join(dir, "sa.key"), filepath.Join(dir, "sa.pub")}
	if err := writeKey(s.private, key); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return s, writePEM(s.public, "PUBLIC KEY", der)
}

// leeway is how long the API server accepts a token beyond its end.
const leeway = time.Minute

// token signs a service account token which the API server accepts for ttl
// from now: its claim ends earlier, by the server's leeway.
func (s *accountSigner) token(namespace, account, uid string, ttl time.Duration) (string, error) {
	id, err := keyID(s.key)
	if err != nil {
		return "", err
	}
	end := time.Now().Add(ttl - leeway)
	start := time.Now().Add(-time.Minute)
	if end.Before(start) {
		start = end.Add(-time.Hour)
	}
	header := map[string]any{"alg": "ES256", "kid": id}
	claims := map[string]any{
		"iss": issuer,
		"sub": fmt.Sprintf("system:serviceaccount:%s:%s", namespace, account),
		"aud": []string{issuer},
		"iat": start.Unix(),
		"nbf": start.Unix(),
		"exp": end.Unix(),
		"jti": randomHex(16),
		"kubernetes.io": map[string]any{
			"namespace":      namespace,
			"serviceaccount": map[string]any{"name": account, "uid": uid},
		},
	}
	var text string
	for _, part := range []any{header, claims} {
		raw, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		text += base64.RawURLEncoding.EncodeToString(raw) + "."
	}
	text = text[:len(text)-1]
	sum := crypto.SHA256.New()
	sum.Write([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum.Sum(nil))
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// keyID is the name by which the API server knows a public key: the hash of
// its DER form.
func keyID(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	sum := crypto.SHA256.New()
	sum.Write(der)
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil)), nil
}

func randomHex(bytes int) string {
	raw := make([]byte, bytes)
	// The reader of the operating system does not fail.
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}
