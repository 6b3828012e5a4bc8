package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// script is a Server whose behaviour a test changes while a Monitor looks. The
// clock is synctest's; what real servers do is tested in server_test.go.
type script struct {
	mu      sync.Mutex
	mode    string // ok, hang, refused, noauth, loading
	loaded  int
	runID   string
	asked   int
	release chan struct{} // closed when a hanging answer may come
	closed  chan struct{}
}

func newScript(mode string) *script {
	return &script{mode: mode, runID: "a", release: make(chan struct{}), closed: make(chan struct{})}
}

func (s *script) set(mode string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode == "hang" {
		close(s.release)
		s.release = make(chan struct{})
	}
	s.mode = mode
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *script) Close() error { close(s.closed); return nil }

func (s *script) Pipeline(ctx context.Context, cmds ...[]string) ([]any, error) {
	s.mu.Lock()
	s.asked++
	mode, release := s.mode, s.release
	s.mu.Unlock()
	if mode == "hang" {
		select {
		case <-release:
			mode = "ok"
		case <-s.closed:
			return nil, io.ErrClosedPipe
		case <-ctx.Done():
			return nil, status.WithReason(status.ReasonTimeout, ctx.Err())
		}
	}
	switch mode {
	case "refused":
		return nil, status.WithReason(status.ReasonUnreachable, fmt.Errorf("connect: %w", syscall.ECONNREFUSED))
	case "noauth":
		err := status.WithHint(status.ReasonAuth, "check the password", errors.New("PING: NOAUTH no"))
		return []any{err, err, err, err, err}, nil
	case "loading":
		s.mu.Lock()
		defer s.mu.Unlock()
		err := status.WithReason(status.ReasonLoading, errors.New("PING: LOADING Redis is loading the dataset in memory"))
		return []any{err, "run_id:" + s.runID, fmt.Sprintf("loading:1\r\nloading_loaded_bytes:%d\r\nloading_total_bytes:1000\r\nloading_eta_seconds:-1", s.loaded), "role:master", "cluster_enabled:0"}, nil
	}
	return []any{"PONG", "run_id:" + s.runID, "loading:0", "role:master", "cluster_enabled:0"}, nil
}

// watch runs a Monitor in a synctest bubble.
func watch(t *testing.T, s Server, o Options) (*Monitor, *status.Board) {
	t.Helper()
	board := status.NewBoard(slog.New(slog.DiscardHandler), nil)
	m := NewMonitor(s, o, board.Register(status.Probe, Reasons()...))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	// Looks fall on whole seconds, assertions between them.
	pass(500 * time.Millisecond)
	return m, board
}

// pass lets synthetic time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func expect(t *testing.T, m *Monitor, k Kind, want string) {
	t.Helper()
	if got := m.Verdicts().Of(k).Line(k); got != want {
		t.Errorf("%s: got %q, want %q", k, got, want)
	}
}

func TestMonitorHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript("ok")
		m, board := watch(t, s, Options{})
		expect(t, m, Readiness, "ok: master")

		s.set("hang")
		pass(2 * time.Second) // asked at 1 s, one miss at 2 s
		expect(t, m, Readiness, "ok: master")
		expect(t, m, Liveness, "ok: no answer for 1 s, death is declared after 60 s")
		pass(time.Second)
		expect(t, m, Readiness, "not ready: no answer for 2 s")
		pass(57 * time.Second)
		expect(t, m, Liveness, "ok: no answer for 59 s, death is declared after 60 s")
		pass(time.Second)
		expect(t, m, Liveness, "not alive: no answer for 60 s")
		r, _ := board.Report(status.Probe)
		if r.State != status.Failing || r.Reason != status.ReasonTimeout || r.Message != "not alive: no answer for 60 s" {
			t.Errorf("board: %+v", r)
		}
		// One question waits; it is not asked again every second.
		if n := s.count(); n > 5 {
			t.Errorf("%d questions to a server that does not answer", n)
		}

		s.set("ok")
		pass(time.Second)
		expect(t, m, Liveness, "ok: it answers")
		expect(t, m, Readiness, "ok: master")
	})
}

func TestMonitorServerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript("refused")
		m, board := watch(t, s, Options{})
		expect(t, m, Startup, "not started: connect: connection refused")
		if r, _ := board.Report(status.Probe); r.State != status.Warning {
			t.Errorf("a server that was never up is no failure yet: %+v", r)
		}
		pass(10 * time.Minute)
		expect(t, m, Liveness, "ok: the server has not been up yet: connect: connection refused")
		if r, _ := board.Report(status.Probe); r.State != status.Failing || r.Reason != status.ReasonUnreachable {
			t.Errorf("board: %+v", r)
		}

		s.set("ok")
		pass(time.Second)
		expect(t, m, Startup, "ok: the server has answered and was not LOADING")

		s.set("refused")
		pass(time.Second)
		expect(t, m, Startup, "not started: connect: connection refused")
		expect(t, m, Readiness, "not ready: connect: connection refused")
		pass(59 * time.Second)
		expect(t, m, Liveness, "ok: no connection for 59 s, death is declared after 60 s")
		pass(time.Second)
		expect(t, m, Liveness, "not alive: no connection for 60 s: connect: connection refused")
	})
}

func TestMonitorLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript("loading")
		m, _ := watch(t, s, Options{})
		for i := range 1000 { // as long as it takes
			s.mu.Lock()
			s.loaded = i
			s.mu.Unlock()
			pass(time.Second)
			if v := m.Verdicts(); v.Startup.OK || !v.Liveness.OK || v.Readiness.OK {
				t.Fatalf("after %d s: %+v", i, v)
			}
		}
		pass(299 * time.Second)
		expect(t, m, Liveness, "ok: LOADING 99 %, 999 B of 1000 B")
		pass(2 * time.Second)
		expect(t, m, Liveness, "not alive: LOADING 99 %, 999 B of 1000 B, without progress for 301 s")

		s.set("ok")
		pass(time.Second)
		expect(t, m, Startup, "ok: the server has answered and was not LOADING")
		expect(t, m, Liveness, "ok: it answers")
	})
}

func TestMonitorKeepsReadinessWhenThePasswordIsWrong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript("noauth")
		m, board := watch(t, s, Options{})
		expect(t, m, Readiness, "not ready: PING: NOAUTH no")
		if r, _ := board.Report(status.Probe); r.State != status.Failing || r.Reason != status.ReasonAuth {
			t.Errorf("board: %+v", r)
		}
		s.set("ok")
		pass(retryLooks*time.Second + time.Second)
		expect(t, m, Readiness, "ok: master")
		s.set("noauth")
		before := s.count()
		pass(time.Minute)
		expect(t, m, Readiness, "ok: as before; PING: NOAUTH no")
		expect(t, m, Liveness, "ok: it answers: PING: NOAUTH no")
		if n := s.count() - before; n > 12 {
			t.Errorf("%d log-ins with a wrong password in a minute", n)
		}
	})
}

func TestMonitorForgetsAServerThatWasReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript("ok")
		m, _ := watch(t, s, Options{})
		expect(t, m, Startup, "ok: the server has answered and was not LOADING")
		s.mu.Lock()
		s.runID = "b"
		s.mu.Unlock()
		s.set("loading")
		pass(time.Second)
		expect(t, m, Startup, "not started: LOADING 0 %, 0 B of 1000 B")
	})
}

func TestMonitorNewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var fresh error
		set := func(err error) { mu.Lock(); fresh = err; mu.Unlock() }
		m, board := watch(t, newScript("ok"), Options{Fresh: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return fresh
		}})
		pass(time.Second)
		set(status.WithReason(status.ReasonMaxClients, errors.New("PING: ERR max number of clients reached")))
		pass(40 * time.Second)
		expect(t, m, Readiness, "ok: master; new connections are refused: PING: ERR max number of clients reached")
		if r, _ := board.Report(status.Probe); r.State != status.Warning || r.Reason != status.ReasonMaxClients {
			t.Errorf("board: %+v", r)
		}
		set(status.WithReason(status.ReasonTimeout, errors.New("PING: i/o timeout")))
		pass(20 * time.Second)
		expect(t, m, Readiness, "not ready: the open connection works, new ones do not: PING: i/o timeout")
		expect(t, m, Liveness, "ok: it answers")
		set(nil)
		pass(10 * time.Second)
		expect(t, m, Readiness, "ok: master")
	})
}

func TestMonitorAnnounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := watch(t, newScript("ok"), Options{AnnounceOK: func() (bool, string) { return false, "replica-announce-ip\nis wrong" }})
		expect(t, m, Readiness, "not ready: replica-announce-ip is wrong")
		expect(t, m, Liveness, "ok: it answers")
	})
}

// A sidecar that was stopped for an hour must not take that hour for the server's.
func TestMonitorThatStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := status.NewBoard(slog.New(slog.DiscardHandler), nil)
		m := NewMonitor(newScript("ok"), Options{}, board.Register(status.Probe))
		m.came()
		m.absorb(timedAnswer{answer: ask(t.Context(), newScript("ok"), false, refusals{})})
		<-time.After(time.Hour)
		expect(t, m, Liveness, "ok: the sidecar itself has not looked for 3600 s")
		expect(t, m, Readiness, "ok: master; the sidecar itself has not looked for 3600 s")
		m.tick(m.came(), true)
		expect(t, m, Liveness, "ok: no answer for 2 s, death is declared after 60 s")
	})
}
