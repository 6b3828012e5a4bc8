package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// serve starts a server with the usual routes and returns its host:port.
func serve(t *testing.T, o Options, h http.Handler, log *slog.Logger) string {
	t.Helper()
	o.Addresses = []string{"127.0.0.1:0"}
	return serveAll(t, o, h, log)[0]
}

// serveAll starts a server on all addresses of o and returns what they became.
func serveAll(t *testing.T, o Options, h http.Handler, log *slog.Logger) []string {
	t.Helper()
	s, err := New(o, h, log)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := s.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return addrs
}

// plain is a client without connections that outlive a request.
func plain(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// get returns status code and body.
func get(t *testing.T, c *http.Client, url string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	tests := map[string]struct {
		addr, want, hint string
		is               error
	}{
		"port taken": {
			addr, "listen on " + addr + ": address already in use",
			"another process listens there (ss -ltnp shows which): end it, or choose another web.listen-address", syscall.EADDRINUSE,
		},
		"foreign address": {
			"192.0.2.1:9121", "listen on 192.0.2.1:9121: cannot assign requested address",
			"this host does not have the address: choose another web.listen-address, such as :9121", syscall.EADDRNOTAVAIL,
		},
		"no port":      {"localhost", "listen on localhost: address localhost: missing port in address", "web.listen-address is host:port or :port", nil},
		"unknown port": {":redis-sidecar", "listen on :redis-sidecar: lookup tcp/redis-sidecar: unknown port", "web.listen-address is host:port or :port", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := New(Options{Addresses: []string{"127.0.0.1:0", tt.addr}}, http.NotFoundHandler(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Listen(t.Context())
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if got := status.HintOf(err); got != tt.hint {
				t.Errorf("hint: got %q, want %q", got, tt.hint)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v is not %v", err, tt.is)
			}
			if len(s.listeners) > 0 {
				t.Error("the address that was free is held")
			}
		})
	}
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	if _, err := New(Options{}, http.NotFoundHandler(), log); err == nil || err.Error() != "web: no address to listen on" {
		t.Errorf("got %v", err)
	}
	_, err := New(Options{Addresses: []string{":0"}, ConfigFile: "/does/not/exist.yml"}, http.NotFoundHandler(), log)
	if want := "web configuration: /does/not/exist.yml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A request that runs when the server is told to stop gets its answer.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	s, err := New(Options{Addresses: []string{"127.0.0.1:0"}}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "whole answer")
	}), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := s.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()

	c := plain(t)
	answer := make(chan string, 1)
	go func() {
		resp, err := c.Get("http://" + addrs[0])
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-begun
	cancel()
	// No new connections from now on.
	for deadline := time.Now().Add(5 * time.Second); ; {
		conn, err := net.Dial("tcp", addrs[0])
		if err != nil {
			break
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("still accepts connections")
		}
	}
	close(finish)
	if got := <-answer; got != "whole answer" {
		t.Errorf("got %q", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A request that does not end does not hold up the end for longer than allowed.
func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	var log testenv.Log
	begun := make(chan struct{})
	s, err := New(Options{Addresses: []string{"127.0.0.1:0"}, ShutdownTimeout: 50 * time.Millisecond},
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
		}), logTo(&log))
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := s.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c := plain(t)
	cut := make(chan error, 1)
	go func() {
		resp, err := c.Get("http://" + addrs[0])
		if err == nil {
			_ = resp.Body.Close()
		}
		cut <- err
	}()
	<-begun
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := <-cut; err == nil {
		t.Error("the request was answered")
	}
	if !strings.Contains(log.String(), "requests were cut off") {
		t.Errorf("log:\n%s", &log)
	}
}

func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	addr := serve(t, Options{}, Routes{}.Handler(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	code, _ := get(t, plain(t), "http://"+addr+"/health", func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("x", 64<<10)) })
	if code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d", code)
	}
}

// Every address serves, not only the first one that gets to it.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	addrs := serveAll(t, Options{Addresses: []string{"127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"}}, Routes{}.Handler(log), log)
	for range 2 {
		for _, addr := range addrs {
			if code, body := get(t, plain(t), "http://"+addr+"/health"); code != http.StatusOK || body != "ok\n" {
				t.Errorf("%s: %d %q", addr, code, body)
			}
		}
	}
}
