package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const installRedis = "apt-get install redis-server redis-sentinel, or run make test"

// Redis is a redis-server of the test's own.
type Redis struct {
	Addr string // 127.0.0.1:port
	Port int
	Dir  string // working directory: data, redis.conf if the test wrote one
	Pid  int

	program string
	args    []string // as given by the test
	process *process // of the last start
}

// StartRedis starts redis-server in a new temporary directory on a free port of
// 127.0.0.1 and waits until it answers. args are options as on its command line
// ("--appendonly", "yes"); they come last and win. Automatic saving is off
// unless args ask for it.
func StartRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	return StartRedisIn(tb, tb.TempDir(), args...)
}

// StartRedisIn is StartRedis in a directory of the caller's. A first argument
// that does not begin with "--" is the path of a redis.conf.
func StartRedisIn(tb testing.TB, dir string, args ...string) *Redis {
	tb.Helper()
	r := newRedis(tb, dir, args)
	r.Start(tb)
	return r
}

// NewRedis is StartRedisIn without the start, for TryStart.
func NewRedis(tb testing.TB, dir string, args ...string) *Redis {
	tb.Helper()
	return newRedis(tb, dir, args)
}

func newRedis(tb testing.TB, dir string, args []string) *Redis {
	tb.Helper()
	r := &Redis{Dir: dir, args: args, program: Program(tb, "redis-server", installRedis)}
	r.Port = FreePort(tb)
	if i := slices.Index(args, "--port"); i >= 0 && i+1 < len(args) {
		port, err := strconv.Atoi(args[i+1])
		if err != nil {
			tb.Fatalf("--port %s: %v", args[i+1], err)
		}
		r.Port = port
	}
	host := "127.0.0.1"
	if i := slices.Index(args, "--bind"); i >= 0 && i+1 < len(args) {
		host = args[i+1]
	}
	r.Addr = host + ":" + strconv.Itoa(r.Port)
	return r
}

// Start starts the server again after Stop or Kill, with the same arguments and
// directory, and waits until it answers and has loaded its data. Only a server
// that was told to load slowly (key-load-delay) is returned while it does.
func (r *Redis) Start(tb testing.TB) {
	tb.Helper()
	r.spawn(tb)
	Eventually(tb, 20*time.Second, func() error {
		select {
		case <-r.process.exited:
			tb.Fatalf("redis-server ended at its start:\n%s", r.Log())
		default:
		}
		c := redis.New(redis.Options{Addr: r.Addr, Timeout: time.Second})
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Do(ctx, "PING")
		loading := status.ReasonOf(err) == status.ReasonLoading && !slices.Contains(r.args, "--key-load-delay")
		if err != nil && (loading || !redis.IsReply(err)) {
			return err
		}
		return nil
	})
}

// spawn starts the process and registers its end.
func (r *Redis) spawn(tb testing.TB) {
	tb.Helper()
	own := []string{"--port", strconv.Itoa(r.Port), "--bind", "127.0.0.1", "--dir", r.Dir, "--daemonize", "no",
		"--enable-debug-command", "yes"}
	var args []string
	if len(r.args) > 0 && !strings.HasPrefix(r.args[0], "--") {
		args = slices.Concat(r.args[:1], own, r.args[1:])
	} else {
		args = slices.Concat(own, []string{"--save", ""}, r.args)
	}
	cmd := exec.Command(r.program, args...)
	cmd.Dir = r.Dir
	r.process = startProcess(tb, cmd)
	r.Pid = cmd.Process.Pid
}

// TryStart starts the server and waits until it answers something other than
// LOADING or has ended. It returns its log and an error when it ended.
func (r *Redis) TryStart(tb testing.TB) (log string, err error) {
	tb.Helper()
	r.spawn(tb)
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case <-r.process.exited:
			return r.Log(), errors.New("redis-server ended at its start")
		case <-time.After(10 * time.Millisecond):
		}
		c := redis.New(redis.Options{Addr: r.Addr, Timeout: time.Second})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := c.Do(ctx, "PING")
		cancel()
		_ = c.Close()
		if err == nil {
			return "", nil
		}
	}
	return "", fmt.Errorf("redis-server at %s does not answer PONG", r.Addr)
}

// Stop ends the server with SIGTERM, as Kubernetes does, and waits for its end.
func (r *Redis) Stop(tb testing.TB) {
	tb.Helper()
	r.end(tb, syscall.SIGTERM)
}

// Kill ends the server with SIGKILL and waits for its end.
func (r *Redis) Kill(tb testing.TB) {
	tb.Helper()
	r.end(tb, syscall.SIGKILL)
}

func (r *Redis) end(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	r.Signal(tb, sig)
	select {
	case <-r.process.exited:
	case <-time.After(20 * time.Second):
		tb.Fatalf("redis-server %d did not end by %s", r.Pid, sig)
	}
}

// Restart stops the server with SIGTERM and starts it again.
func (r *Redis) Restart(tb testing.TB) {
	tb.Helper()
	r.Stop(tb)
	r.Start(tb)
}

// Log returns the end of what the server printed since its last start.
func (r *Redis) Log() string { return r.process.output.String() }

// Signal sends a signal to the server.
func (r *Redis) Signal(tb testing.TB, sig syscall.Signal) {
	tb.Helper()
	if err := r.process.cmd.Process.Signal(sig); err != nil {
		tb.Fatalf("signal %s to redis-server %d: %v", sig, r.Pid, err)
	}
}

// Client returns a client of the server, which is closed with the test.
func (r *Redis) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	c := redis.New(redis.Options{Addr: r.Addr})
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Do sends one command on a connection of its own and fails the test on any error.
func (r *Redis) Do(tb testing.TB, args ...string) any {
	tb.Helper()
	const patience = 30 * time.Second
	c := redis.New(redis.Options{Addr: r.Addr, Timeout: patience})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := c.Do(ctx, args...)
	if err != nil {
		tb.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return v
}

// Fill writes n string keys named prefix0, prefix1 … with values of size bytes
// (inside the server, by DEBUG POPULATE, so it is quick).
func (r *Redis) Fill(tb testing.TB, prefix string, n, size int) {
	tb.Helper()
	r.Do(tb, "DEBUG", "POPULATE", strconv.Itoa(n), prefix, strconv.Itoa(size))
}

// Digest returns DEBUG DIGEST: equal for equal data sets.
func (r *Redis) Digest(tb testing.TB) string {
	tb.Helper()
	return r.Do(tb, "DEBUG", "DIGEST").(string)
}

// DBSize returns DBSIZE of database 0.
func (r *Redis) DBSize(tb testing.TB) int64 {
	tb.Helper()
	return r.Do(tb, "DBSIZE").(int64)
}

// WriteFile writes a file into the server's directory and returns its path.
func (r *Redis) WriteFile(tb testing.TB, name, text string) string {
	tb.Helper()
	path := filepath.Join(r.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	return path
}
