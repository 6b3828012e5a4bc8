package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// changesFor returns the changes and pairs that make a server equal to a text.
func changesFor(t *testing.T, s *realServer, text string) []pair {
	t.Helper()
	directives, problems := Parse("f", []byte(text))
	cat := newCatalogue(s.version).withServer(s.values)
	asked, more := cat.interpret(&Tree{Path: "f", Directives: directives})
	if problems = append(problems, more...); len(problems) > 0 {
		t.Fatal(problems.Strings())
	}
	return pairs(makePlan(cat, asked.settings, asked.settings, s.values).apply)
}

func TestApplyIsAllOrNothing(t *testing.T) {
	const text = "maxmemory 5mb\nproc-title-template {nonsense}\ntimeout 9\nclient-output-buffer-limit pubsub 1mb 2mb 3\nclient-output-buffer-limit replica 4mb 5mb 6\n"
	for _, v := range []version{v62, v70} { // one by one, and in one command
		t.Run(v.String(), func(t *testing.T) {
			s, refusal := startWith(t, "")
			if s == nil {
				t.Fatal(refusal)
			}
			if v >= v70 && parseVersion(s.version) < v70 {
				return
			}
			ctx := context.Background()
			_, err := apply(ctx, s.client, v, changesFor(t, s, text))
			if status.ReasonOf(err) != status.ReasonRejected || !strings.HasPrefix(err.Error(), "proc-title-template: CONFIG SET") {
				t.Fatalf("reason %s, error %v", status.ReasonOf(err), err)
			}
			after, err := s.client.ConfigGet(ctx, "*")
			if err != nil {
				t.Fatal(err)
			}
			for name, before := range s.values {
				if after[name] != before {
					t.Errorf("%s is %q, was %q", name, after[name], before)
				}
			}
			if _, err := apply(ctx, s.client, v, changesFor(t, s, strings.Replace(text, "{nonsense}", "x", 1))); err != nil {
				t.Fatal(err)
			}
			if after, err = s.client.ConfigGet(ctx, "*"); err != nil {
				t.Fatal(err)
			}
			if got, want := after["client-output-buffer-limit"], "normal 0 0 0 slave 4194304 5242880 6 pubsub 1048576 2097152 3"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// quoting is a server that repeats the refused value in its error, as Redis 6.2
// does.
type quoting struct{ Server }

func (quoting) ConfigSet(_ context.Context, pairs ...string) error {
	return status.WithReason(status.ReasonRedis, fmt.Errorf("ERR Invalid argument '%s' for CONFIG SET '%s'", pairs[1], pairs[0]))
}

func TestRefusedSecretIsNotRepeated(t *testing.T) {
	s := newCatalogue("6.2.14").specs["tls-key-file-pass"]
	_, err := apply(context.Background(), quoting{}, v62, []pair{{name: s.name, value: "hunter2", spec: s}})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), redacted) {
		t.Errorf("got %v", err)
	}
}

// TestMachineGivesLess runs a server whose limit of open files is low: maxclients
// cannot follow the file, and the rest does.
func TestMachineGivesLess(t *testing.T) {
	dir, err := os.MkdirTemp("", "maxclients") //nolint:usetesting // the parent of TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	v := newVolume(t, conf("maxmemory 100mb"))
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("/bin/sh", "-c", `ulimit -n 300 && exec "$@"`, "sh",
		testenv.Program(t, "redis-server", "apt-get install redis-server"), "--port", "0", "--unixsocket", socket, "--unixsocketperm", "777", "--dir", dir, "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534} // root may raise the limit
	}
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client := redis.New(redis.Options{Network: "unix", Addr: socket})
	defer client.Close()
	ctx := context.Background()
	testenv.Eventually(t, 20*time.Second, func() error { _, err := client.Do(ctx, "PING"); return err })

	r := start(t, Options{Path: v.path(), Interval: 50 * time.Millisecond}, client)
	r.until(status.OK, "", nil)
	v.update(t, conf("maxmemory 200mb", "maxclients 5000"))
	d := r.until(status.Warning, status.ReasonRejected, func(d Detail) error {
		if got := names(d.Applied); got != "maxmemory" {
			return errors.New("applied: " + got)
		}
		return nil
	})
	if got := names(d.Refused); got != "maxclients" {
		t.Errorf("refused: %s", got)
	}
	if len(d.Refused) > 0 && !strings.Contains(d.Refused[0].Why, "operating system") {
		t.Errorf("why: %s", d.Refused[0].Why)
	}
	v.update(t, conf("maxmemory 200mb", "maxclients 100"))
	r.until(status.OK, "", atHash(v.path()))
}
