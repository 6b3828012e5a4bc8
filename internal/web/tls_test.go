package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// peer returns the serial number of the certificate that a server shows.
func peer(t *testing.T, c *http.Client, url string) int64 {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "ok\n" || resp.ProtoMajor != 2 {
		t.Errorf("got %q over %s", body, resp.Proto)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.Int64()
}

func TestCertificateRotation(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	version := func(serial int64) map[string]string {
		cert, key := ca.issue(t, "redis-0", serial)
		return map[string]string{
			"web.yml": "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n",
			"tls.crt": string(cert), "tls.key": string(key),
		}
	}
	d := newDir(t, version(101))
	var log testenv.Log
	addr := serve(t, Options{ConfigFile: d.file("web.yml")}, Routes{}.Handler(slog.New(slog.DiscardHandler)), logTo(&log))
	c, url := ca.client(t), "https://"+addr+"/health"
	if got := peer(t, c, url); got != 101 {
		t.Fatalf("certificate %d", got)
	}

	d.replace(t, version(102))
	if got := peer(t, c, url); got != 102 {
		t.Errorf("certificate %d after the rotation", got)
	}

	// A certificate whose key has not arrived changes nothing and is said once.
	bad := version(103)
	bad["tls.key"] = version(104)["tls.key"]
	d.replace(t, bad)
	for range 3 {
		if got := peer(t, c, url); got != 102 {
			t.Errorf("certificate %d after a bad one", got)
		}
	}
	if got := strings.Count(log.String(), "the one before stays in force"); got != 1 {
		t.Errorf("said %d times:\n%s", got, &log)
	}
	if !strings.Contains(log.String(), "private key does not match public key") {
		t.Errorf("log:\n%s", &log)
	}
	d.replace(t, version(105))
	if got := peer(t, c, url); got != 105 {
		t.Errorf("certificate %d after the next good one", got)
	}

	// Files that vanish for a moment change nothing.
	if err := os.Rename(d.file("..data"), d.file("..gone")); err != nil {
		t.Fatal(err)
	}
	if got := peer(t, c, url); got != 105 {
		t.Errorf("certificate %d without files", got)
	}

	// TLS cannot be taken away from a running server.
	off := version(106)
	off["web.yml"] = "# nothing\n"
	d.replace(t, off)
	if got := peer(t, c, url); got != 105 {
		t.Errorf("certificate %d", got)
	}
	if !strings.Contains(log.String(), "TLS is switched on or off: that needs a restart of the sidecar") {
		t.Errorf("log:\n%s", &log)
	}
	if code, _ := get(t, plain(t), "http://"+addr+"/health"); code != http.StatusBadRequest {
		t.Errorf("plain HTTP got %d", code)
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(t, "redis-0", 1)
	pair := func(a *authority, name string) tls.Certificate {
		c, k := a.issue(t, name, 7)
		p, err := tls.X509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	d := newDir(t, map[string]string{
		"web.yml": `tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
`,
		"tls.crt": string(cert), "tls.key": string(key), "ca.crt": string(ca.pem),
	})
	addr := serve(t, Options{ConfigFile: d.file("web.yml")}, Routes{}.Handler(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	url := "https://" + addr + "/health"
	peer(t, ca.client(t, pair(ca, "prometheus")), url)
	for name, certs := range map[string][]tls.Certificate{
		"none":              nil,
		"foreign authority": {pair(other, "prometheus")},
		"another name":      {pair(ca, "grafana")},
	} {
		pool := x509.NewCertPool()
		pool.AddCert(ca.cert)
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, Certificates: certs, MinVersion: tls.VersionTLS13}}
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			// With TLS 1.3 the refusal comes after the client's handshake.
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "remote error" {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

func TestHTTP1Only(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue(t, "redis-0", 1)
	d := newDir(t, map[string]string{
		"web.yml": "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n  min_version: TLS13\nhttp_server_config:\n  http2: false\n  headers:\n    Strict-Transport-Security: max-age=60\n    X-Frame-Options: sameorigin\n",
		"tls.crt": string(cert), "tls.key": string(key),
	})
	addr := serve(t, Options{ConfigFile: d.file("web.yml")}, Routes{}.Handler(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	resp, err := ca.client(t).Get("https://" + addr + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 1 || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("%s, TLS %x", resp.Proto, resp.TLS.Version)
	}
	// The file's headers win over our own.
	if h := resp.Header; h.Get("Strict-Transport-Security") != "max-age=60" || h.Get("X-Frame-Options") != "sameorigin" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
}
