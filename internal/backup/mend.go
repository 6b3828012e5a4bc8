package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// A server with save points refuses all writes after a save that failed, also
// one that the sidecar asked for, unless stop-writes-on-bgsave-error is no. What
// makes it writable again is a save that succeeds: BGSAVE, SAVE, or the sync of a
// replica by way of the disk. A stream without a file is none (7.0.15), nor can it
// be what failed: where streams are all that the sidecar asks for, and the server
// makes no dump for them, nothing is mended. The server tries again
// by itself only when enough keys had changed for a save point; refusing writes,
// it may never come to that. So the sidecar asks for the save, as soon as there
// is room and memory for it. It never changes the server's configuration.
//
// Whose save it was that failed is not asked: the server does not tell, and a
// sidecar that was restarted meanwhile does not know.

// mender looks after a server that refuses writes since a save failed.
type mender struct {
	redis Redis
	opts  SnapshotOptions
	log   *slog.Logger
	now   func() time.Time

	failures int       // saves that it asked for in vain
	next     time.Time // not before
	free     int64     // bytes, when the last of them was asked for
	said     time.Time // when the log last told of the trouble

	looking sync.Mutex // held by look; guards what is above
	mu      sync.Mutex
	trouble string // what is known of it; "" while writes are taken
}

func newMender(opts SnapshotOptions, redis Redis, log *slog.Logger) *mender {
	return &mender{opts: opts, redis: redis, log: log, now: time.Now}
}

// state says in words that the server refuses writes, and what is in the way of
// the save that would end it; "" when it takes them, or is not known not to.
func (m *mender) state() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// run looks every now and then until ctx ends. changed is called when state has.
func (m *mender) run(ctx context.Context, changed func()) {
	const calm, trouble = 15 * time.Second, 2 * time.Second
	for {
		before := m.state()
		err := m.look(ctx, true)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Debug("whether the server refuses writes is not known", "error", err)
		}
		now := m.state()
		if now != before {
			changed()
		}
		interval := calm
		if now != "" {
			interval = trouble
		}
		if sleep(ctx, interval) != nil {
			return
		}
	}
}

// look asks the server how it is, and, if it may, for a save, when that is what
// the server needs and can do. The error says that it could not be asked. While
// another look goes on, it does nothing: then the state is known.
func (m *mender) look(ctx context.Context, mayAsk bool) error {
	if !m.looking.TryLock() {
		return nil
	}
	defer m.looking.Unlock()
	in, err := askInfo(ctx, m.redis, "persistence")
	if err != nil {
		return err
	}
	if in.Get("rdb_last_bgsave_status") != "err" {
		m.well()
		return nil
	}
	f, err := learn(ctx, m.redis, m.opts.DataDir)
	if err != nil {
		return err
	}
	if !f.savePoints || m.opts.Source == SourceStream && !f.streamNeedsDisk {
		m.well() // the save failed, and it takes writes all the same; or it was none of the sidecar's
		return nil
	}
	if !mayAsk {
		if m.state() == "" {
			m.ill(errors.New("one is asked for soon"))
		}
		return nil
	}
	if err := m.save(ctx, f); err != nil {
		m.ill(err)
		return nil
	}
	m.well()
	return nil
}

// save asks for a save if one can succeed, and waits for its end. The error says
// why the server is as it was.
func (m *mender) save(ctx context.Context, f facts) error {
	const (
		least = 10 * time.Second
		most  = 10 * time.Minute
	)
	if f.dirErr != nil {
		return fmt.Errorf("whether there is room for one is not known: %w", f.dirErr)
	}
	in, err := askInfo(ctx, m.redis, "persistence")
	if err != nil {
		return err
	}
	if child := busy(in); child != "" {
		return fmt.Errorf("the server is busy with %s", child)
	}
	free, err := f.checkSpace()
	if err != nil {
		return err
	}
	if err := f.checkMemory(ctx, m.redis, m.opts.MemoryLimit, in); err != nil {
		return err
	}
	// The estimate of what it needs was wrong, or it is something else: more room
	// is a reason to try at once, otherwise less and less often.
	if m.failures > 0 && m.now().Before(m.next) && free <= m.free+m.free/10 {
		return fmt.Errorf("the last one failed, with %s free; the next try is at %s", human.Bytes(m.free), m.next.UTC().Format(time.TimeOnly))
	}
	m.log.Info("asking for a save, so that the server takes writes again", "free", human.Bytes(free))
	m.free = free
	err = m.ask(ctx)
	if err == nil {
		m.failures = 0
		return nil
	}
	m.next = m.now().Add(min(least<<min(m.failures, 10), most))
	m.failures++
	return err
}

// ask has the server save and waits for the end.
func (m *mender) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Hour, errors.New("the save does not end"))
	defer cancel()
	if _, err := m.redis.Do(ctx, "BGSAVE"); err != nil {
		return err
	}
	in, err := waitIdle(ctx, m.redis, m.now().Add(time.Hour), time.Hour)
	if err != nil {
		return err
	}
	if in.Get("rdb_last_bgsave_status") != "ok" {
		return status.WithHint(status.ReasonMisconf, "see the log of redis-server", errors.New("the save failed again"))
	}
	return nil
}

func (m *mender) well() {
	m.mu.Lock()
	was := m.trouble
	m.trouble = ""
	m.mu.Unlock()
	m.failures = 0
	if was != "" {
		m.log.Info("the server takes writes again")
	}
}

func (m *mender) ill(err error) {
	m.mu.Lock()
	was := m.trouble
	m.trouble = err.Error()
	m.mu.Unlock()
	// What is in the way has numbers in it, which change all the time.
	const again = time.Minute
	if now := m.now(); was == "" || was != err.Error() && now.Sub(m.said) >= again {
		m.said = now
		attrs := []any{"why_not_yet", err}
		if hint := status.HintOf(err); hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		m.log.Error("the server refuses writes (MISCONF) until a save succeeds", attrs...)
	}
}

// startMending runs the mender until ctx ends, or the function that it returns is
// called, which waits for its end.
func (j *Job) startMending(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() {
		j.mend.run(ctx, func() { j.setDetail(func(d *Detail) { d.WritesRefused = j.mend.state() }) })
	})
	return func() {
		cancel()
		ended.Wait()
	}
}

// Mend is for a program that takes one snapshot and ends: if the server refuses
// writes since a save failed, it asks for one more, if that can succeed. The
// error says that the server still refuses them.
func (s *Snapshotter) Mend(ctx context.Context) error {
	m := newMender(s.opts, s.redis, s.log)
	if err := m.look(ctx, true); err != nil {
		return err
	}
	if trouble := m.state(); trouble != "" {
		return status.WithReason(status.ReasonMisconf, fmt.Errorf("the server refuses writes (MISCONF) until a save succeeds: %s", trouble))
	}
	return nil
}
