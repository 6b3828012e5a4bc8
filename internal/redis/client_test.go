package redis_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t *testing.T, o redis.Options) *redis.Client {
	t.Helper()
	c := redis.New(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func credentials(user, password string) func() (string, string, error) {
	return func() (string, string, error) { return user, password, nil }
}

func TestReplies(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	ctx := t.Context()
	got, err := c.Pipeline(ctx,
		[]string{"SET", "k", "v"}, []string{"GET", "k"}, []string{"GET", "absent"},
		[]string{"DBSIZE"}, []string{"LPUSH", "k", "x"}, []string{"CONFIG", "GET", "appendonly"})
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := got[4].(error); !ok || !strings.HasPrefix(e.Error(), "LPUSH: WRONGTYPE") || !redis.IsReply(e) {
		t.Errorf("LPUSH on a string gave %v", got[4])
	}
	got[4] = nil
	want := []any{"OK", "v", nil, int64(1), nil, []any{"appendonly", "no"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}

	in, err := c.Info(ctx, "server", "replication")
	if err != nil {
		t.Fatal(err)
	}
	if port, _ := in.Int("tcp_port"); port != int64(srv.Port) || in.Get("role") != "master" {
		t.Errorf("INFO: tcp_port %d, role %q", port, in.Get("role"))
	}
	if err := c.ConfigSet(ctx, "maxmemory", "100mb", "hz", "20"); err != nil {
		t.Fatal(err)
	}
	conf, err := c.ConfigGet(ctx, "maxmemory", "hz")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"maxmemory": "104857600", "hz": "20"}, conf); diff != "" {
		t.Errorf("CONFIG GET (-want +got):\n%s", diff)
	}
}

// One connection serves every call, however many come at once, so that an agent
// costs its server one client and one AUTH.
func TestKeepsOneConnection(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	done := make(chan error)
	for range 20 {
		go func() {
			_, err := c.Do(t.Context(), "PING")
			done <- err
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	before, _ := mustInfo(t, c).Int("total_connections_received")
	for range 10 {
		if _, err := c.Pipeline(t.Context(), []string{"PING"}, []string{"PING"}); err != nil {
			t.Fatal(err)
		}
	}
	after, _ := mustInfo(t, c).Int("total_connections_received")
	if before != after {
		t.Errorf("%d new connections for ten pipelines", after-before)
	}
}

func mustInfo(t *testing.T, c *redis.Client) interface{ Int(string) (int64, bool) } {
	t.Helper()
	in, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestReasons(t *testing.T) {
	open := testenv.StartRedis(t)
	locked := testenv.StartRedis(t, "--requirepass", "right")
	limited := testenv.StartRedis(t, "--user", "watcher", "on", ">pw", "~*", "-@all", "+ping", "+auth", "+hello")
	full := testenv.StartRedis(t, "--maxclients", "1")
	hung := testenv.StartRedis(t)
	hung.Signal(t, syscall.SIGSTOP)
	holder := full.Client(t)
	testenv.Eventually(t, time.Minute, func() error { _, err := holder.Do(t.Context(), "PING"); return err }) // the start's own client has to be gone
	chatter := testenv.Listen(t, func(_ context.Context, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	closer := testenv.Listen(t, func(context.Context, net.Conn) {})
	missing := filepath.Join(t.TempDir(), "absent.sock")

	const short, long = 300 * time.Millisecond, 20 * time.Second
	for name, tc := range map[string]struct {
		o      redis.Options
		cmd    []string
		reason status.Reason
		reply  bool
	}{
		"closed port":       {redis.Options{Addr: "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))}, []string{"PING"}, status.ReasonUnreachable, false},
		"name":              {redis.Options{Addr: "no-such-host.invalid:6379"}, []string{"PING"}, status.ReasonUnreachable, false},
		"no socket":         {redis.Options{Network: "unix", Addr: missing}, []string{"PING"}, status.ReasonUnreachable, false},
		"hung":              {redis.Options{Addr: hung.Addr}, []string{"PING"}, status.ReasonTimeout, false},
		"no password":       {redis.Options{Addr: locked.Addr}, []string{"PING"}, status.ReasonAuth, true},
		"wrong password":    {redis.Options{Addr: locked.Addr, Credentials: credentials("", "secret-wrong")}, []string{"PING"}, status.ReasonAuth, true},
		"wrong user":        {redis.Options{Addr: locked.Addr, Credentials: credentials("nobody", "secret-wrong")}, []string{"PING"}, status.ReasonAuth, true},
		"not permitted":     {redis.Options{Addr: limited.Addr, Credentials: credentials("watcher", "pw")}, []string{"CONFIG", "GET", "dir"}, status.ReasonNoPerm, true},
		"unknown command":   {redis.Options{Addr: open.Addr}, []string{"NOSUCH", "secret-wrong"}, status.ReasonUnknownCmd, true},
		"maxclients":        {redis.Options{Addr: full.Addr}, []string{"PING"}, status.ReasonMaxClients, true},
		"other error reply": {redis.Options{Addr: open.Addr}, []string{"CONFIG", "SET", "maxmemory", "x"}, status.ReasonRedis, true},
		"not redis":         {redis.Options{Addr: chatter}, []string{"PING"}, status.ReasonProtocol, false},
		"hangs up":          {redis.Options{Addr: closer}, []string{"PING"}, status.ReasonUnreachable, false},
		"no TLS there": {redis.Options{Addr: open.Addr, TLS: func() (*tls.Config, error) { return &tls.Config{}, nil }},
			[]string{"PING"}, status.ReasonTimeout, false}, // for a look, see TestTLSMismatch, the time is too short
		"not TLS": {redis.Options{Addr: chatter, TLS: func() (*tls.Config, error) { return &tls.Config{}, nil }},
			[]string{"PING"}, status.ReasonTLS, false},
		"TLS files": {redis.Options{Addr: open.Addr, TLS: func() (*tls.Config, error) { return nil, os.ErrPermission }},
			[]string{"PING"}, status.ReasonTLS, false},
		"password file": {redis.Options{Addr: open.Addr, Credentials: func() (string, string, error) { return "", "", redis.CredentialsError(os.ErrPermission) }},
			[]string{"PING"}, status.ReasonFile, false},
		"endless reply": {redis.Options{Addr: open.Addr, ReplyLimit: 1000}, []string{"INFO"}, status.ReasonProtocol, false},
	} {
		t.Run(name, func(t *testing.T) {
			// Who has no answer to wait for waits for a short time, the others have enough.
			tc.o.Timeout = long
			if tc.reason == status.ReasonTimeout || name == "name" {
				tc.o.Timeout = short
			}
			c := newClient(t, tc.o)
			start := time.Now()
			_, err := c.Do(t.Context(), tc.cmd...)
			if err == nil {
				t.Fatal("no error")
			}
			if got := status.ReasonOf(err); got != tc.reason {
				t.Errorf("reason %q, want %q: %v", got, tc.reason, err)
			}
			if got := redis.IsReply(err); got != tc.reply {
				t.Errorf("IsReply is %v: %v", got, err)
			}
			if d := time.Since(start); d > 4500*time.Millisecond { // the default is 5 s
				t.Errorf("took %s", d)
			}
			if strings.Contains(err.Error(), "secret-wrong") {
				t.Errorf("the error repeats a secret: %v", err)
			}
			_, err = c.Pipeline(t.Context(), tc.cmd)
			if err == nil && !tc.reply {
				t.Error("no error of the pipeline")
			}
		})
	}
}

// A server that comes back, or a password that changes, needs nobody's help.
func TestRecovers(t *testing.T) {
	srv := testenv.StartRedis(t)
	password := "first"
	c := newClient(t, redis.Options{Addr: srv.Addr, Credentials: func() (string, string, error) { return "", password, nil }})
	srv.Do(t, "CONFIG", "SET", "requirepass", "first")
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Fatal(err)
	}
	srv.Kill(t)
	if _, err := c.Do(t.Context(), "PING"); status.ReasonOf(err) != status.ReasonUnreachable {
		t.Fatalf("server killed: %v", err)
	}
	srv.Start(t) // without a password: its default user accepts any
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
	srv.Do(t, "CONFIG", "SET", "requirepass", "second")
	srv.Signal(t, syscall.SIGSTOP)                               // a time-out ends the open connection, which stays authenticated otherwise
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // enough to send something, at least
	defer cancel()
	if _, err := c.Do(ctx, "PING"); err == nil {
		t.Error("a stopped server answered")
	}
	srv.Signal(t, syscall.SIGCONT)
	if _, err := c.Do(t.Context(), "PING"); status.ReasonOf(err) != status.ReasonAuth {
		t.Errorf("with the old password: %v", err)
	}
	password = "second"
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Errorf("after the password was changed: %v", err)
	}
}

// So does a password that is not there yet.
func TestPasswordComesLater(t *testing.T) {
	srv := testenv.StartRedis(t, "--requirepass", "hush")
	password := ""
	c := newClient(t, redis.Options{Addr: srv.Addr, Name: "me", Credentials: func() (string, string, error) { return "", password, nil }})
	for range 2 {
		if _, err := c.Do(t.Context(), "PING"); status.ReasonOf(err) != status.ReasonAuth || !redis.IsReply(err) {
			t.Errorf("without the password: %v", err)
		}
	}
	password = "hush"
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Errorf("with the password: %v", err)
	}
}

// A server that was restarted between two calls is noticed before the second.
func TestRestartBetweenCalls(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	for range 3 {
		if _, err := c.Do(t.Context(), "PING"); err != nil {
			t.Fatal(err)
		}
		srv.Restart(t)
	}
	if _, err := c.Pipeline(t.Context(), []string{"PING"}); err != nil {
		t.Fatal(err)
	}
}

func TestRenamedCommand(t *testing.T) {
	srv := testenv.StartRedis(t, "--rename-command", "CONFIG", "hidden")
	plain := srv.Client(t)
	if _, err := plain.ConfigGet(t.Context(), "hz"); status.ReasonOf(err) != status.ReasonUnknownCmd {
		t.Errorf("CONFIG is there: %v", err)
	}
	c := newClient(t, redis.Options{Addr: srv.Addr, Rename: map[string]string{"CONFIG": "hidden"}})
	if got, err := c.ConfigGet(t.Context(), "hz"); err != nil || got["hz"] != "10" {
		t.Errorf("%v %v", got, err)
	}
	if got, err := c.Pipeline(t.Context(), []string{"CONFIG", "GET", "hz"}); err != nil || len(got[0].([]any)) != 2 {
		t.Errorf("%v %v", got, err)
	}
}

func TestContextEndsACall(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Fatal(err)
	}
	srv.Signal(t, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := c.Do(ctx, "PING")
	if status.ReasonOf(err) != status.ReasonTimeout || time.Since(start) > 4*time.Second { // the default is 5 s
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	srv.Signal(t, syscall.SIGCONT)
	if _, err := c.Do(t.Context(), "PING"); err != nil {
		t.Errorf("the server goes on: %v", err)
	}
}

func TestRefusedHandshake(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	r.Do(t, "ACL", "SETUSER", "app", "on", ">pw", "-@all", "+ping")
	as := func(password string) *redis.Client {
		c := redis.New(redis.Options{
			Addr: r.Addr, Name: "test",
			Credentials: func() (string, string, error) { return "app", password, nil },
		})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}

	// Each command of a pipeline is answered with why the log-in was refused.
	replies, err := as("wrong").Pipeline(t.Context(), []string{"PING"}, []string{"INFO", "server"})
	if err != nil || len(replies) != 2 {
		t.Fatalf("got %v, %v", replies, err)
	}
	for i, want := range []string{"PING: WRONGPASS ", "INFO server: WRONGPASS "} {
		if err, ok := replies[i].(error); !ok || !redis.IsReply(err) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", replies[i], want)
		}
	}

	// A user who may neither say HELLO nor give the connection a name works.
	if v, err := as("pw").Do(t.Context(), "PING"); v != "PONG" || err != nil {
		t.Errorf("got %v, %v", v, err)
	}
}
