package web

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestDirectBasicAuth(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]Direct{
		"plain": {Username: "prom", Password: "secret"},
		"hash":  {Username: "prom", Hash: settings.Secret(hashOfPassword(t, "secret"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log testenv.Log
			addr := serve(t, Options{Direct: d}, Routes{Status: func() any { return nil }}.Handler(slog.New(slog.DiscardHandler)), logTo(&log))
			code := func(path, user, password string) int {
				got, _ := get(t, plain(t), "http://"+addr+path, func(r *http.Request) {
					if user != "" {
						r.SetBasicAuth(user, password)
					}
				})
				return got
			}
			for _, tt := range []struct {
				path, user, password string
				want                 int
			}{
				{"/health", "", "", 200}, {"/status", "", "", 401}, {"/status", "prom", "secret", 200}, {"/status", "prom", "secret", 200},
				{"/status", "prom", "secreT", 401}, {"/status", "prom", "", 401}, {"/status", "other", "secret", 401},
			} {
				if got := code(tt.path, tt.user, tt.password); got != tt.want {
					t.Errorf("%s as %s %s: %d, want %d", tt.path, tt.user, tt.password, got, tt.want)
				}
			}
			if text := log.String(); !strings.Contains(text, "passwords cross the network in clear") || strings.Contains(text, "secret") {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}

func TestDirectTLS(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	pair := func(a *authority) tls.Certificate {
		c, k := a.issue(t, "prometheus", 7)
		p, err := tls.X509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	files := func(serial int64) map[string]string {
		cert, key := ca.issue(t, "redis-0", serial)
		return map[string]string{"tls.crt": string(cert), "tls.key": string(key), "ca.crt": string(ca.pem)}
	}
	d := newDir(t, files(1))
	o := Options{Direct: Direct{CertFile: d.file("tls.crt"), KeyFile: d.file("tls.key"), ClientCAFile: d.file("ca.crt"), MinVersion: "TLS1.3"}}
	addr := serve(t, o, Routes{}.Handler(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	c, url := ca.client(t, pair(ca)), "https://"+addr+"/health"
	if got := peer(t, c, url); got != 1 {
		t.Errorf("certificate %d", got)
	}
	d.replace(t, files(2))
	if got := peer(t, c, url); got != 2 {
		t.Errorf("certificate %d after the rotation", got)
	}
	for name, certs := range map[string][]tls.Certificate{"none": nil, "foreign": {pair(other)}} {
		if resp, err := ca.client(t, certs...).Get(url); err == nil {
			resp.Body.Close()
			t.Errorf("%s: got %s, want a refusal", name, resp.Status)
		}
	}
	// The oldest version holds beside client certificates, too.
	old := ca.client(t, pair(ca))
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	if resp, err := old.Get(url); err == nil || !strings.Contains(err.Error(), "protocol version") {
		if err == nil {
			resp.Body.Close()
		}
		t.Errorf("TLS 1.2: got %v, want a refusal of the version", err)
	}
}

func TestDirectProblems(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue(t, "redis-0", 1)
	_, foreign := ca.issue(t, "redis-0", 2)
	d := newDir(t, map[string]string{"tls.crt": string(cert), "tls.key": string(key), "other.key": string(foreign), "empty": ""})
	for want, direct := range map[string]Direct{
		"": {CertFile: d.file("tls.crt"), KeyFile: d.file("tls.key")},
		"web.tls: certificate and key: private key does not match public key":                 {CertFile: d.file("tls.crt"), KeyFile: d.file("other.key")},
		"web.tls.cert-file: " + d.file("none") + ": no such file or directory":                {CertFile: d.file("none"), KeyFile: d.file("tls.key")},
		"web.tls: client_ca holds no certificate in PEM format":                               {CertFile: d.file("tls.crt"), KeyFile: d.file("tls.key"), ClientCAFile: d.file("empty")},
		"web.basic-auth.hash-password: is not a bcrypt hash; htpasswd -nBC 10 NAME makes one": {Username: "a", Hash: "secret"},
		"web.tls.key-file: " + d.file("none") + ": no such file or directory\nweb.basic-auth.hash-password: is not a bcrypt hash; htpasswd -nBC 10 NAME makes one": {
			CertFile: d.file("tls.crt"), KeyFile: d.file("none"), Username: "a", Hash: "secret"},
	} {
		got := ""
		if err := direct.Validate(); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if _, err := New(Options{Addresses: []string{":0"}, Direct: Direct{Username: "a", Hash: "b"}}, http.NotFoundHandler(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a server with a bad hash")
	}
}

// A socket is taken over from the dead, not from the living, and files are left alone.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "web.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	start := func(addr string) (*Server, error) {
		s, err := New(Options{Addresses: []string{addr}}, Routes{}.Handler(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := s.Listen(t.Context())
		if err == nil && addrs[0] != addr {
			t.Errorf("listens on %q, want %q", addrs[0], addr)
		}
		return s, err
	}
	s, err := start("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	if code, body := get(t, &http.Client{Transport: tr}, "http://redis-sidecar/health"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	if _, err := start("unix://" + socket); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second one: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start("unix://" + file); err == nil {
		t.Error("a file was replaced")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file: %q %v", text, err)
	}
}
