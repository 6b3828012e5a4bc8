package scratch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// childDir, when set, makes this test binary load what is there and print the
// scratch server's pid: a process of its own that a test can kill.
const childDir = "SCRATCH_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		server := Server{Environ: os.Environ(), Connect: connect}
		_, err := server.Load(context.Background(), dir, 0, nil)
		_, _ = os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func connect(socket string) Client { return redis.New(redis.Options{Network: "unix", Addr: socket}) }

// dump makes the RDB of a server in a directory of its own, changed by edit.
func dump(tb testing.TB, edit func([]byte) []byte) string {
	tb.Helper()
	r := testenv.StartRedis(tb)
	r.Fill(tb, "key", 2000, 200)
	r.Do(tb, "SAVE")
	b, err := os.ReadFile(filepath.Join(r.Dir, "dump.rdb"))
	if err != nil {
		tb.Fatal(err)
	}
	if edit != nil {
		b = edit(b)
	}
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, dumpName), b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func TestLoad(t *testing.T) {
	dir := dump(t, nil)
	var last int64
	res, err := Server{Connect: connect}.Load(testContext(t), dir, 100, func(n int64) { last = n })
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Databases) != 1 || res.Databases[0] != (Database{Index: 0, Keys: 2000}) || !strings.Contains(res.Version, " ") {
		t.Errorf("result %+v, %d bytes were loaded", res, last)
	}
	if pids := serversIn(t, dir); len(pids) != 0 {
		t.Errorf("servers are left: %v", pids)
	}
}

// Each fault of the file is damage; each other trouble is none.
func TestLoadRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		edit   func([]byte) []byte
		reason status.Reason
		want   string
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }, status.ReasonCorrupt, "the server ended"},
		// In a value: one that says what follows may lead the server to anything, to a
		// module that it does not know, too.
		{"a byte flipped", func(b []byte) []byte { b[strings.Index(string(b), "value:1000")] ^= 1; return b }, status.ReasonCorrupt, "the server ended"},
		{"nothing in it", func([]byte) []byte { return []byte("REDIS0009") }, status.ReasonCorrupt, "the server ended"},
		{"no RDB", func([]byte) []byte { return []byte(strings.Repeat("hello world ", 10)) }, status.ReasonCorrupt, "the server ended"},
		{"a version of the future", func(b []byte) []byte { copy(b, "REDIS0012"); return b }, status.ReasonRejected, "cannot load RDB version 12"},
		{"more than the memory", func(b []byte) []byte {
			// used-mem is a string of digits or a 32 bit integer: a string here.
			at := strings.Index(string(b), "used-mem") + len("used-mem")
			return append(append(append([]byte{}, b[:at]...), append([]byte{17}, "99000000000000000"...)...), b[at+5:]...)
		}, status.ReasonRejected, "the data needs "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := dump(t, tt.edit)
			_, err := Server{Connect: connect}.Load(testContext(t), dir, 0, nil)
			if err == nil || status.ReasonOf(err) != tt.reason || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v (reason %s), want %s: …%s…", err, status.ReasonOf(err), tt.reason, tt.want)
			}
			if pids := serversIn(t, dir); len(pids) != 0 {
				t.Errorf("servers are left: %v", pids)
			}
		})
	}
}

// The caller may stop waiting, and a server that hangs is given up.
func TestLoadGivenUp(t *testing.T) {
	dir := dump(t, nil)
	slow := filepath.Join(t.TempDir(), "redis-server")
	program := testenv.Program(t, "redis-server", "apt-get install redis-server")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && exec " + program + " --version\nexec " + program + " \"$@\" --key-load-delay 1000000 --loading-process-events-interval-bytes 1024\n"
	if err := os.WriteFile(slow, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	server := Server{Program: slow, Environ: os.Environ(), Connect: connect, Stall: time.Second}
	_, err := server.Load(testContext(t), dir, 0, nil)
	if status.ReasonOf(err) != status.ReasonTimeout || !strings.Contains(err.Error(), "no progress for 1s") {
		t.Errorf("a server that hangs: %v", err)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
	defer cancel()
	server.Stall = time.Minute
	_, err = server.Load(ctx, dir, 0, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("canceled: %v", err)
	}
	if pids := serversIn(t, dir); len(pids) != 0 {
		t.Errorf("servers are left: %v", pids)
	}

	mute := filepath.Join(t.TempDir(), "redis-server")
	if err := os.WriteFile(mute, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancel()
	server.Program = mute
	if _, err = server.Load(ctx, dir, 0, nil); !errors.Is(err, context.DeadlineExceeded) || status.ReasonOf(err) != status.ReasonCanceled {
		t.Errorf("canceled before it has said its version: %v (reason %s)", err, status.ReasonOf(err))
	}

	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if _, err := server.Load(testContext(t), long, 0, nil); status.ReasonOf(err) != status.ReasonFile || !strings.Contains(status.HintOf(err), "TMPDIR") {
		t.Errorf("a path that no socket can have: %v", err)
	}
}

// TestTrapScratchServerOutlivesItsParent: whoever kills this process, even with
// SIGKILL, kills its scratch server.
func TestTrapScratchServerOutlivesItsParent(t *testing.T) {
	dir := dump(t, nil)
	// The socket of a dead server: the child waits for a connection that answers.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	program := testenv.Program(t, "redis-server", "apt-get install redis-server")
	script := "#!/bin/sh\n[ \"$1\" = --version ] && exec " + program + " --version\nexec " + program + " \"$@\" --key-load-delay 1000000\n"
	if err := os.WriteFile(filepath.Join(bin, "redis-server"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir, "PATH="+bin+":"+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := false
	t.Cleanup(func() {
		if !waited {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	testenv.Eventually(t, 20*time.Second, func() error {
		if len(serversIn(t, dir)) != 1 {
			return errors.New("no server yet")
		}
		return nil
	})
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waited = true
	testenv.Eventually(t, 20*time.Second, func() error {
		if pids := serversIn(t, dir); len(pids) != 0 {
			return errors.New("it lives on")
		}
		return nil
	})
}

// serversIn returns the processes whose working directory is dir, and only theirs.
func serversIn(tb testing.TB, dir string) (pids []int) {
	tb.Helper()
	names, err := os.ReadDir("/proc")
	if err != nil {
		tb.Fatal(err)
	}
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		if cwd, err := os.Readlink("/proc/" + n.Name() + "/cwd"); err == nil && cwd == dir {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestVersion(t *testing.T) {
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "redis-server")
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct{ path, want, fail string }{
		{path: testenv.Program(t, "redis-server", ""), want: "7.0.15"},
		{path: script("#!/bin/sh\necho 'Valkey server v=9.1.2 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1'"), want: "valkey 9.1.2"},
		{path: script("#!/bin/sh\necho hello"), fail: `"hello" is not what a redis-server says`},
		{path: script("#!/bin/sh\nexit 3"), fail: "exit status 3"},
		{path: script("#!/lib/ld-of-another-image.so\n"), fail: "its loader or a library of it is not in this container"},
		{path: "/nosuch/redis-server", fail: "no such file or directory"},
	} {
		got, err := Version(testContext(t), test.path, os.Environ())
		if test.fail != "" {
			if err == nil || !strings.Contains(err.Error(), test.fail) || status.ReasonOf(err) != status.ReasonFile {
				t.Errorf("%s: %q, %v; want …%s", test.path, got, err, test.fail)
			}
		} else if err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.path, got, err, test.want)
		}
	}
}
