// Command redis-sidecar runs beside redis-server in every pod: it keeps what
// the server announces true, follows its redis.conf, exports its metrics, takes
// and restores snapshots, and answers the kubelet's probes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	_ "time/tzdata" // schedules name time zones, and an image from scratch has none

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func main() {
	ctx, hurry, stop := signals()
	e := &env{
		program: filepath.Base(os.Args[0]), hurry: hurry, environ: os.Environ(),
		stdout: os.Stdout, stderr: os.Stderr, terminal: isTerminal(os.Stderr),
	}
	frugal(e.getenv)
	code := run(ctx, e, os.Args[1:])
	stop()
	os.Exit(code)
}

// signals returns a context that the first SIGTERM or SIGINT ends, for which
// jobs finish what they are at, and a channel that the second one closes, for
// which they drop it.
func signals() (ctx context.Context, hurry <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan struct{})
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, ok := <-ch; !ok {
			return
		}
		cancel()
		if _, ok := <-ch; ok {
			close(second)
		}
	}()
	return ctx, second, func() {
		signal.Stop(ch)
		close(ch)
		<-done
		cancel()
	}
}

// env is what a command sees of the world.
type env struct {
	program        string          // as which it was started
	hurry          <-chan struct{} // see signals
	environ        []string
	stdout, stderr io.Writer
	terminal       bool // stderr is one: a progress line may be redrawn
}

// exporterName is the program that this one can be started as, in its place: the
// agent then does only what that does, until a setting says more.
const exporterName = "redis_exporter"

// defaults are other defaults than those of the settings, by name.
func (e *env) defaults() map[string]string {
	if e.program == exporterName {
		return map[string]string{"announce.mode": "off"} // the other jobs are off anyway
	}
	return nil
}

// Exit codes that mean the same for every command; a command may have more.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2 // settings or command line
	exitNotFound = 3 // no such snapshot, or none at all
	exitHasData  = 4 // restore: the directory holds data
	exitStandby  = 5 // backup now: this server has not the role that is backed up
	exitDamaged  = 6 // backup list and verify: a snapshot is damaged
	exitLastGood = 7 // backup delete: it is the last good one
	exitBusy     = 8 // backup now: another one is being taken
)

// run is the program. It returns the exit code.
func run(ctx context.Context, e *env, args []string) int {
	cmd, rest := find(args)
	if e.program == exporterName && len(args) > 0 && strings.HasPrefix(args[0], "-") {
		cmd, rest = agentCommand(), args // its --help and --version, too
	}
	if cmd == nil {
		fmt.Fprintf(e.stderr, "redis-sidecar: unknown command %q\n  hint: %s\n", rest[0], suggestion(rest[0]))
		return exitUsage
	}
	err := cmd.run(ctx, e, rest)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errHelp):
		cmd.help(e.stdout)
		return exitOK
	}
	code := exitCode(err)
	reason := ""
	if cmd.namesReasons() && code != exitUsage {
		reason = reasonNote(err)
	}
	fmt.Fprintf(e.stderr, "redis-sidecar: %v%s\n", err, reason)
	hint := status.HintOf(err)
	if _, own := errors.AsType[settings.Problems](err); hint == "" && code == exitUsage && !own {
		hint = "redis-sidecar " + cmd.name + " --help shows the arguments and flags"
	}
	if hint != "" {
		fmt.Fprintf(e.stderr, "  hint: %s\n", hint)
	}
	return code
}

// reasonNote is what the line of an error ends with; empty when it has no reason.
func reasonNote(err error) string {
	if reason := status.ReasonOf(err); reason != status.ReasonInternal {
		return fmt.Sprintf(" (reason %s)", reason)
	}
	return ""
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code, err}
}

func exitCode(err error) int {
	if x, ok := errors.AsType[*exitError](err); ok {
		return x.code
	}
	if _, ok := errors.AsType[settings.Problems](err); ok {
		return exitUsage
	}
	return exitFailed
}

// isTerminal tells whether f is a character device.
func isTerminal(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
