package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The scripts run the test binary as redis-sidecar, in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"redis-sidecar": main, exporterName: main})
}

func TestScripts(t *testing.T) {
	// Scripts run at the same time, and flush: each has a server of its own.
	ports := map[string]int{}
	for _, name := range []string{"completion", "now", "procedures", "verify"} {
		ports["script-"+name] = testenv.StartRedis(t).Port
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "ids": ids},
		Setup: func(e *testscript.Env) error {
			e.Setenv("POD_NAME", "redis-0")
			if port := ports[filepath.Base(e.WorkDir)]; port != 0 {
				e.Setenv("REDISPORT", strconv.Itoa(port))
			}
			return nil
		},
	})
}

// exits CODE program args… runs a program and wants that exit code; stdout and
// stderr are there for the commands that follow.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE program args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	path := args[1]
	if path == "redis-sidecar" || path == exporterName { // testscript puts them first in PATH
		path, err = lookPath(ts.Getenv("PATH"), path)
		ts.Check(err)
	}
	cmd := exec.CommandContext(context.Background(), path, args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = os.Environ()
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "POD_NAME", "WORK", "REDIS_ADDR", "REDIS_SIDECAR_BACKUP_STORE", "REDIS_SIDECAR_BACKUP_INSTANCE", "REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	got := 0
	err = cmd.Run()
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		got, err = x.ExitCode(), nil
	}
	ts.Check(err)
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// ids sets ID0, ID1 … to the ids in the output of backup list --json, which must
// be the last command: the newest first.
func ids(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: ids")
	}
	var entries []jsonEntry
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &entries))
	for i, e := range entries {
		ts.Setenv("ID"+strconv.Itoa(i), e.ID)
	}
}

func lookPath(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		file := dir + "/" + name
		if st, err := os.Stat(file); err == nil && !st.IsDir() {
			return file, nil
		}
	}
	return "", exec.ErrNotFound
}
