package config

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// realServer is a redis-server on a unix socket that was started with one file.
type realServer struct {
	client  *redis.Client
	version string
	values  map[string]string // CONFIG GET *
}

// startWith starts redis-server with a redis.conf of these lines and returns it,
// or what it printed when it refused to start.
func startWith(tb testing.TB, conf string) (s *realServer, refusal string) {
	tb.Helper()
	dir := tb.TempDir()
	path := filepath.Join(dir, "redis.conf")
	writeFile(tb, path, base(dir)+conf)
	return startFile(tb, dir, path)
}

// base is what every file of startWith begins with.
func base(dir string) string {
	return fmt.Sprintf("port 0\nunixsocket %s/s\ndir %s\n", dir, dir)
}

func startFile(tb testing.TB, dir, path string) (s *realServer, refusal string) {
	tb.Helper()
	cmd := exec.Command(testenv.Program(tb, "redis-server", "apt-get install redis-server"), path)
	cmd.Dir = dir
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		tb.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	stop := func() { _ = cmd.Process.Kill(); <-exited }

	client := redis.New(redis.Options{Network: "unix", Addr: filepath.Join(dir, "s"), Timeout: 5 * time.Second,
		Credentials: func() (user, password string, err error) { return "", passwordIn(tb, path), nil }})
	for deadline := time.Now().Add(20 * time.Second); ; {
		select {
		case <-exited:
			_ = client.Close()
			text, _ := os.ReadFile(out.Name())
			return nil, string(text)
		case <-time.After(2 * time.Millisecond):
		}
		in, err := client.Info(context.Background())
		if err != nil {
			if time.Now().After(deadline) {
				stop()
				tb.Fatalf("redis-server does not answer: %v", err)
			}
			continue
		}
		s = &realServer{client: client, version: in.Get("redis_version")}
		break
	}
	tb.Cleanup(func() { _ = client.Close(); stop() })
	if s.values, err = client.ConfigGet(context.Background(), "*"); err != nil {
		tb.Fatal(err)
	}
	return s, ""
}

func writeFile(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
}

// installedVersion is the version of the redis-server of the tests.
func installedVersion(tb testing.TB) string {
	tb.Helper()
	out, err := exec.Command(testenv.Program(tb, "redis-server", "apt-get install redis-server"), "--version").Output()
	if err != nil {
		tb.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			return v
		}
	}
	tb.Fatalf("no version in %q", out)
	return ""
}

// passwordIn returns the requirepass of a file, as this package reads it.
func passwordIn(tb testing.TB, path string) string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	password := ""
	directives, _ := Parse(path, text)
	for _, d := range directives {
		if d.Name == "requirepass" && len(d.Args) == 1 {
			password = d.Args[0]
		}
	}
	return password
}
