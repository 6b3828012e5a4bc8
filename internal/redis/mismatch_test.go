package redis_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// startTLS starts a server that speaks TLS on one port and none on another, which
// is its Addr, and returns what a client needs for the first.
func startTLS(t *testing.T, args ...string) (srv *testenv.Redis, addr string, config func() (*tls.Config, error)) {
	t.Helper()
	cert, key := testenv.Certificate(t, t.TempDir(), "server", time.Now().Add(time.Hour))
	port := strconv.Itoa(testenv.FreePort(t))
	srv = testenv.StartRedis(t, append([]string{"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert}, args...)...)
	return srv, "127.0.0.1:" + port, redis.TLSFiles{CA: cert, Cert: cert, Key: key}.Config
}

// failIn makes a call that fails within d, or so much later as a machine that is
// busy may need and an own time of the client, by default 5 s, would not be over.
func failIn(t *testing.T, c *redis.Client, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	start := time.Now()
	_, err := c.Do(ctx, "PING")
	if err == nil {
		t.Fatal("no error")
	}
	if took := time.Since(start); took > max(d+time.Second, 4500*time.Millisecond) {
		t.Errorf("a call with %s took %s", d, took)
	}
	return err
}

func TestTLSMismatch(t *testing.T) {
	srv, addr, config := startTLS(t, "--requirepass", "hush", "--tls-auth-clients", "yes")
	open, openAddr, _ := startTLS(t, "--tls-auth-clients", "no")
	const plainHint = "the server does not speak TLS on this port: use redis:// instead of rediss://"
	const tlsHint = "the server speaks TLS on this port: use rediss://"
	password := credentials("", "hush")
	asked := newClient(t, redis.Options{Addr: srv.Addr, Credentials: password})
	if _, err := asked.Do(t.Context(), "CONFIG", "RESETSTAT"); err != nil { // the test's own start was refused
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		o    redis.Options
		hint string
	}{
		"TLS to a plain port":                       {redis.Options{Addr: open.Addr, TLS: config}, plainHint},
		"TLS to a plain port, password":             {redis.Options{Addr: srv.Addr, TLS: config, Credentials: password}, plainHint},
		"TLS to a plain port, short time":           {redis.Options{Addr: srv.Addr, TLS: config, Timeout: 2 * time.Second}, plainHint},
		"plain to a TLS port":                       {redis.Options{Addr: openAddr}, tlsHint},
		"plain to a TLS port that wants a client's": {redis.Options{Addr: addr, Credentials: password, Name: "me"}, tlsHint},
		"plain to a TLS port, by name":              {redis.Options{Addr: strings.Replace(addr, "127.0.0.1", "localhost", 1)}, tlsHint},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, tc.o)
			for range 2 {
				err := failIn(t, c, 3*time.Second)
				if status.ReasonOf(err) != status.ReasonTLS || status.HintOf(err) != tc.hint {
					t.Errorf("reason %q, hint %q: %v", status.ReasonOf(err), status.HintOf(err), err)
				}
			}
		})
	}
	t.Cleanup(func() { // after the parallel tests, before the servers end
		for _, c := range []*redis.Client{asked, open.Client(t)} {
			got, err := c.Pipeline(context.Background(), []string{"INFO", "errorstats"}, []string{"ACL", "LOG"})
			if err != nil {
				t.Fatal(err)
			}
			if stats, _ := got[0].(string); strings.TrimSpace(stats) != "# Errorstats" {
				t.Errorf("a look counts as an error: %s", stats)
			}
			if log, _ := got[1].([]any); len(log) != 0 {
				t.Errorf("a look is in ACL LOG: %v", log)
			}
		}
		if strings.Contains(srv.Log()+open.Log(), "SECURITY ATTACK") {
			t.Error("a look is taken for an attack")
		}
	})
}

// A server that hangs is no mismatch, nor is one that comes late.
func TestHungTLSServer(t *testing.T) {
	srv, addr, config := startTLS(t)
	srv.Signal(t, syscall.SIGSTOP)
	for name, o := range map[string]redis.Options{
		"TLS":              {Addr: addr, TLS: config},
		"TLS, dial's time": {Addr: addr, TLS: config, Timeout: 700 * time.Millisecond},
		"plain":            {Addr: addr},
	} {
		err := failIn(t, newClient(t, o), 900*time.Millisecond)
		if status.ReasonOf(err) != status.ReasonTimeout {
			t.Errorf("%s: reason %q: %v", name, status.ReasonOf(err), err)
		}
	}
	srv.Signal(t, syscall.SIGCONT)
}

// peers records what is said on each connection to a port, which serve answers;
// serve knows the connection by its number, from 1.
func peers(t *testing.T, serve func(ctx context.Context, n int, c net.Conn, said []byte)) (addr string, said func() []string) {
	t.Helper()
	var (
		mu    sync.Mutex
		first []string
	)
	addr = testenv.Listen(t, func(ctx context.Context, c net.Conn) {
		mu.Lock()
		first = append(first, "")
		n := len(first)
		mu.Unlock()
		b := make([]byte, 16<<10)
		read, _ := c.Read(b)
		mu.Lock()
		first[n-1] = string(b[:read])
		mu.Unlock()
		serve(ctx, n, c, b[:read])
	})
	return addr, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), first...)
	}
}

// A failed connection costs one more, and no credentials are sent on that.
func TestLook(t *testing.T) {
	config := func() (*tls.Config, error) { return &tls.Config{}, nil }
	password := credentials("", "secret")
	silent := func(_ context.Context, _ int, c net.Conn, _ []byte) { _, _ = io.Copy(io.Discard, c) }
	hangUp := func(context.Context, int, net.Conn, []byte) {}
	answer := func(text string) func(context.Context, int, net.Conn, []byte) {
		return func(_ context.Context, _ int, c net.Conn, _ []byte) { _, _ = io.WriteString(c, text) }
	}
	const hello, quit, auth = "\x16\x03\x01", "QUIT\r\n", "*"
	for name, tc := range map[string]struct {
		tls    func() (*tls.Config, error)
		serve  func(context.Context, int, net.Conn, []byte)
		reason status.Reason
		said   []string // how it begins
	}{
		"silence, TLS":          {config, silent, status.ReasonTimeout, []string{hello, quit}},
		"silence":               {nil, silent, status.ReasonTimeout, []string{auth}},
		"hangs up, TLS":         {config, hangUp, status.ReasonUnreachable, []string{hello}},
		"hangs up":              {nil, hangUp, status.ReasonUnreachable, []string{auth, hello}},
		"an error, TLS":         {config, answer("-ERR x\r\n"), status.ReasonTLS, []string{hello}},
		"an alert, TLS":         {config, answer("\x15\x03\x03\x00\x02\x02\x28"), status.ReasonTLS, []string{hello}},
		"an alert":              {nil, answer("\x15\x03\x01\x00\x02\x02\x46"), status.ReasonTLS, []string{auth}},
		"hangs up, then alerts": {nil, second(hangUp, answer("\x15\x03\x03\x00\x02\x02\x28")), status.ReasonTLS, []string{auth, hello}},
		"hangs up, then text":   {nil, second(hangUp, answer("-ERR x\r\n")), status.ReasonUnreachable, []string{auth, hello}},
		"hangs up, then silent": {nil, second(hangUp, silent), status.ReasonUnreachable, []string{auth, hello}},
		"silence, then a reply": {config, second(silent, answer("-LOADING x\r\n")), status.ReasonTLS, []string{hello, quit}},
		"silence, then alerts":  {config, second(silent, answer("\x15\x03\x03\x00\x02\x02\x46")), status.ReasonTimeout, []string{hello, quit}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, said := peers(t, tc.serve)
			c := newClient(t, redis.Options{Addr: addr, TLS: tc.tls, Credentials: password, Timeout: 2 * time.Second})
			err := failIn(t, c, 3*time.Second)
			if status.ReasonOf(err) != tc.reason {
				t.Errorf("reason %q, want %q: %v", status.ReasonOf(err), tc.reason, err)
			}
			got := said()
			if len(got) != len(tc.said) {
				t.Fatalf("%d connections, want %d: %q", len(got), len(tc.said), got)
			}
			for i, text := range got {
				if !strings.HasPrefix(text, tc.said[i]) || text != quit && tc.said[i] == quit {
					t.Errorf("connection %d begins with %q, want %q", i, text[:min(len(text), 20)], tc.said[i])
				}
				if tc.said[i] != auth && strings.Contains(text, "secret") {
					t.Errorf("connection %d has the password", i)
				}
			}
		})
	}
}

// second serves the first connection by one function, others by another.
func second(first, then func(context.Context, int, net.Conn, []byte)) func(context.Context, int, net.Conn, []byte) {
	return func(ctx context.Context, n int, c net.Conn, said []byte) {
		if n == 1 {
			first(ctx, n, c, said)
			return
		}
		then(ctx, n, c, said)
	}
}

// A server that is slow, not wrong, is waited for after the look.
func TestSlowHandshake(t *testing.T) {
	_, behind, config := startTLS(t)
	looked := make(chan struct{})
	addr, said := peers(t, func(ctx context.Context, n int, c net.Conn, said []byte) {
		if n > 1 {
			close(looked)
			return
		}
		select {
		case <-looked:
		case <-ctx.Done():
			return
		}
		to, err := net.Dial("tcp", behind)
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		_, _ = to.Write(said)
		done := make(chan struct{})
		go func() { defer close(done); _, _ = io.Copy(to, c); _ = to.Close() }()
		_, _ = io.Copy(c, to)
		_ = c.Close()
		<-done
	})
	c := newClient(t, redis.Options{Addr: addr, TLS: config})
	for range 2 {
		if v, err := c.Do(t.Context(), "PING"); v != "PONG" || err != nil {
			t.Fatalf("got %v, %v", v, err)
		}
	}
	if got := said(); len(got) != 2 || got[1] != "QUIT\r\n" {
		t.Errorf("%d connections, want 2", len(got))
	}
}

// There is no look at a unix socket.
func TestNoLookAtASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan [][]byte)
	go func() {
		var said [][]byte
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- said
				return
			}
			b := make([]byte, 16)
			n, _ := c.Read(b)
			said = append(said, b[:n])
			_ = c.Close()
		}
	}()
	err = failIn(t, newClient(t, redis.Options{Network: "unix", Addr: path}), 20*time.Second)
	if status.ReasonOf(err) != status.ReasonUnreachable {
		t.Errorf("reason %q: %v", status.ReasonOf(err), err)
	}
	_ = l.Close()
	if said := <-ended; len(said) != 1 || !bytes.HasPrefix(said[0], []byte("*")) {
		t.Errorf("%d connections: %q", len(said), said)
	}
}
