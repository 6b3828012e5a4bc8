package backup

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The child of the crash tests: this test binary, restoring into a directory
// and killing itself with SIGKILL after a step.
const (
	crashDirEnv   = "RESTORE_CRASH_DIR"
	crashStoreEnv = "RESTORE_CRASH_STORE"
	crashStepEnv  = "RESTORE_CRASH_STEP"
)

// TestRestoreCrashChild does something only in that child.
func TestRestoreCrashChild(t *testing.T) {
	dir := os.Getenv(crashDirEnv)
	if dir == "" {
		return
	}
	s, err := store.Open(t.Context(), os.Getenv(crashStoreEnv), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := NewCatalogue(s, restorableInstance)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Restore(t.Context(), RestoreOptions{Dir: dir, step: func(step string) {
		if step == os.Getenv(crashStepEnv) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal may take a moment
		}
	}}, cat, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
}

// crash restores into dir in a process that is killed after a step.
func (r *restorable) crash(t *testing.T, dir, step string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe, "-test.run=^TestRestoreCrashChild$")
	child.Env = append(os.Environ(), crashDirEnv+"="+dir, crashStoreEnv+"="+r.url, crashStepEnv+"="+step)
	out, err := child.CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed after %q: %v\n%s", step, err, out)
	}
}

// steps returns the steps of a restore into dir, each once.
func (r *restorable) steps(t *testing.T, dir string) []string {
	t.Helper()
	var steps []string
	r.mustRestore(t, RestoreOptions{Dir: dir, step: func(step string) { steps = append(steps, step) }})
	return steps
}

// outcome is what a real server makes of a directory.
type outcome string

const (
	loadsAll outcome = "loads all"
	refuses  outcome = "refuses to start"
	isEmpty  outcome = "starts empty"
)

// boot starts a real server on a copy of dir. server is any server with the
// arguments to use.
func (r *restorable) boot(t *testing.T, server *testenv.Redis, dir string) outcome {
	t.Helper()
	server.Dir = copyOf(t, dir)
	log, err := server.TryStart(t)
	if err != nil {
		if !strings.Contains(log, "Wrong signature trying to load DB from file") {
			t.Errorf("the server refused for another reason:\n%s", log)
		}
		return refuses
	}
	defer server.Kill(t)
	switch server.Digest(t) {
	case r.digest:
		return loadsAll
	case strings.Repeat("0", 40):
		return isEmpty
	}
	return "loads something else"
}

// complete checks that dir holds a whole restore and nothing else.
func (r *restorable) complete(t *testing.T, dir string) {
	t.Helper()
	if diff := cmp.Diff([]string{"appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.manifest", "dump.rdb"}, tree(t, dir)); diff != "" {
		t.Fatalf("files (-want +got):\n%s", diff)
	}
	for _, name := range []string{"appendonlydir/appendonly.aof.1.base.rdb", "dump.rdb"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if hexSHA256(b) != r.m.RDB.SHA256 {
			t.Errorf("%s is not the snapshot", name)
		}
	}
	if exists(filepath.Join(dir, stagingName)) {
		t.Error("the working directory is still there")
	}
}

// stopped returns a server that does not run.
func stopped(t *testing.T, args ...string) *testenv.Redis {
	t.Helper()
	server := testenv.StartRedis(t, args...)
	server.Kill(t)
	return server
}

// TestRestoreKilledAtEveryStep is the crash table of docs/restore.md.
func TestRestoreKilledAtEveryStep(t *testing.T) {
	r := newRestorable(t)
	no, yes := stopped(t, "--appendonly", "no"), stopped(t, "--appendonly", "yes")

	type want struct{ no, yes outcome }
	nothing, held, half, all := want{isEmpty, isEmpty}, want{refuses, isEmpty}, want{refuses, loadsAll}, want{loadsAll, loadsAll}
	wants := map[string]want{
		"made": nothing, "begun": nothing, "downloading": nothing, "downloaded": nothing, "base": nothing, "staged": nothing, "placing": nothing,
		"placeholder": held,
		"aof":         half,
		"dump":        all, "state removed": all, "working directory removed": all,
	}
	steps := r.steps(t, t.TempDir())
	if len(steps) != len(wants) {
		t.Errorf("%d steps, %d expectations: %q", len(steps), len(wants), steps)
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			r.crash(t, dir, step)
			got := want{r.boot(t, no, dir), r.boot(t, yes, dir)}
			if got != wants[step] {
				t.Errorf("appendonly no: %s, want %s; appendonly yes: %s, want %s", got.no, wants[step].no, got.yes, wants[step].yes)
			}
			result, log, err := r.restore(t, RestoreOptions{Dir: dir})
			if err != nil {
				t.Fatalf("the next restore: %v\n%s", err, log)
			}
			if wantSkip := step == "state removed" || step == "working directory removed"; (result.Skipped != "") != wantSkip {
				t.Errorf("the next restore skipped: %q", result.Skipped)
			}
			if wantResumed := step == "aof" || step == "dump"; result.Resumed != wantResumed {
				t.Errorf("the next restore resumed: %v", result.Resumed)
			}
			r.complete(t, dir)
			if got := (want{r.boot(t, no, dir), r.boot(t, yes, dir)}); got != all {
				t.Errorf("after the next restore: appendonly no: %s, appendonly yes: %s", got.no, got.yes)
			}
		})
	}
}

// The clean-up after a crash crashes, too, at each of its own steps and of those
// that follow.
func TestRestoreKilledTwice(t *testing.T) {
	r := newRestorable(t)
	runs := 0
	for _, first := range []string{"made", "downloading", "staged", "placing", "placeholder", "aof", "dump", "state removed"} {
		left := t.TempDir()
		r.crash(t, left, first)
		next := copyOf(t, left)
		var steps []string
		if _, log, err := r.restore(t, RestoreOptions{Dir: next, step: func(step string) { steps = append(steps, step) }}); err != nil {
			t.Fatalf("after %q: %v\n%s", first, err, log)
		}
		seen := map[string]bool{}
		for _, second := range steps {
			if seen[second] {
				continue // the child dies at the first of the same name
			}
			seen[second] = true
			dir := copyOf(t, left)
			r.crash(t, dir, second)
			if _, log, err := r.restore(t, RestoreOptions{Dir: dir}); err != nil {
				t.Errorf("killed after %q, then %q: %v\n%s", first, second, err, log)
				continue
			}
			r.complete(t, dir)
			runs++
		}
	}
	t.Logf("%d restores killed twice", runs)
}

func TestRestoreDryRunAfterACrash(t *testing.T) {
	r := newRestorable(t)
	for _, test := range []struct{ step, log string }{
		{"downloading", "an earlier restore was interrupted: starting over"},
		{"placeholder", "an earlier restore was interrupted: starting over"},
		{"aof", "would finish an interrupted restore"},
	} {
		dir := t.TempDir()
		r.crash(t, dir, test.step)
		before := tree(t, dir)
		result, log, err := r.restore(t, RestoreOptions{Dir: dir, DryRun: true})
		if err != nil || result.ID != r.m.ID || !result.DryRun || result.Resumed != (test.step == "aof") {
			t.Errorf("after %q: %+v, %v", test.step, result, err)
		}
		if !strings.Contains(log, test.log) {
			t.Errorf("after %q: log without %q:\n%s", test.step, test.log, log)
		}
		if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
			t.Errorf("after %q: files (-before +after):\n%s", test.step, diff)
		}
	}
}

// Whatever the state file says, nothing outside the data directory is meant.
func FuzzRestoreState(f *testing.F) {
	f.Add(`{"version":1,"phase":"placing","id":"20261123T061530Z-redis-0-k3x5qa","dump":"dump.rdb","aof":"appendonlydir"}`)
	f.Add(`{"version":1,"phase":"fetching","dump":"../dump.rdb","aof":".."}`)
	f.Fuzz(func(t *testing.T, text string) {
		st, err := parseState(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, name := range []string{st.Dump, st.AOF} {
			if name == "" || name == stagingName || filepath.Base(name) != name || name == ".." || name == "." {
				t.Errorf("name %q was let pass", name)
			}
		}
	})
}

// Somebody starts a server on what a killed restore left, against all advice,
// and works with it. The next restore must not take that away.
func TestRestoreKilledThenServerUsed(t *testing.T) {
	r := newRestorable(t)
	for _, test := range []struct {
		step, appendonly string
		save             bool
	}{
		{"placing", "no", true},
		{"placing", "yes", false},
		{"placeholder", "yes", false},
		{"placeholder", "yes", true},
		{"aof", "yes", false},
		{"aof", "yes", true},
		{"dump", "no", true},
	} {
		dir := t.TempDir()
		r.crash(t, dir, test.step)
		server := startIn(t, dir, "--appendonly", test.appendonly)
		server.Do(t, "SET", "precious", "1")
		if test.save {
			server.Do(t, "SAVE")
		}
		before := server.Digest(t)
		server.Stop(t)
		if _, log, err := r.restore(t, RestoreOptions{Dir: dir}); err != nil {
			t.Errorf("%+v: %v\n%s", test, err, log)
			continue
		}
		server.Start(t)
		loaded(t, server)
		if server.Digest(t) != before {
			t.Errorf("%+v: the data was lost; the server has %d keys now", test, server.DBSize(t))
		}
		server.Stop(t)
	}
}
