package exporter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const (
	// passTime is after how much time of its own a pass is given up, unless
	// the interval is longer: SCAN passes 180 million keys in it at the default rate.
	// Without an end a server whose SCAN never comes to one would look like one that
	// is merely large.
	passTime = time.Hour
	// resumeTries is how often a pass that has begun to SCAN tries to go on when the
	// server cannot answer at the moment. With pauses from firstRetry on, each twice
	// the last, that is half a minute.
	resumeTries = 4
)

var (
	// errMaster ends a pass that must not read a master.
	errMaster = errors.New("the server is a master")
	// errRestarted ends a pass whose cursor another process gave out.
	errRestarted = status.WithReason(status.ReasonUnreachable,
		errors.New("the server was started anew, or is another one, while its keys were looked at: that begins again"))
)

// progress is how far a pass is. It may be read at any time.
type progress struct {
	underWay      atomic.Bool
	looked, total atomic.Int64 // keys
}

// ratio is from 0 to 1, and 1 when no pass is under way.
func (p *progress) ratio() float64 {
	if !p.underWay.Load() {
		return 1
	}
	looked, total := p.looked.Load(), p.total.Load()
	if total <= 0 {
		return 0
	}
	return min(float64(looked)/float64(total), 1)
}

func (p *progress) begin(underWay bool) {
	p.looked.Store(0)
	p.total.Store(0)
	p.underWay.Store(underWay)
}

// turn gives a collector one slice: it goes on with its pass, or begins one. The
// result is when it wants the next.
func (b *backgrounds) turn(ctx context.Context, t *task) time.Time {
	if t.resume == nil {
		t.resume, t.stop = iter.Pull(b.pass(ctx, t))
	}
	if until, more := t.resume(); more {
		return until
	}
	t.resume, t.stop = nil, nil
	return t.due
}

// pass returns one pass of a collector, which may take many slices. It yields
// when a slice is over, and says when it wants to go on.
func (b *backgrounds) pass(ctx context.Context, t *task) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		start := time.Now()
		t.begin(start)
		defer t.progress.begin(false)
		s := newSession(b.link, &t.progress, yield)
		s.limit = max(passTime, b.interval)
		s.offMaster = b.offMaster(t.name())
		out := newRecorder(b.catalog)
		err := b.read(ctx, s, t, out)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errMaster) {
			out, err = newRecorder(b.catalog), nil
		}
		show := err == nil
		if err == nil {
			err = out.problem
		}
		t.settle(out, start, err, show)
		b.log(t, err)
		t.due = t.next(start, time.Now(), b.interval, err)
	}
}

// read does one pass. A panic is an error of that collector.
func (b *backgrounds) read(ctx context.Context, s *session, t *task, out *recorder) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = status.WithReason(status.ReasonInternal, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	if err := s.begin(ctx); err != nil {
		return err
	}
	if _, too := t.background.(ofSentinels); s.target.sentinel && !too {
		return nil
	}
	if err := t.read(ctx, s, out); err != nil {
		return err
	}
	return s.confirm(ctx)
}

// turn makes sure that the collector may ask now: when its slice is over it
// lets the others have theirs. In each slice it asks at least once.
func (s *session) turn(ctx context.Context) error {
	if s.used+time.Since(s.start) > s.limit {
		return s.tooLong()
	}
	next := time.Now()
	for _, t := range []time.Time{s.notBefore, s.gate.opens()} {
		if t.After(next) {
			next = t
		}
	}
	if s.asked && !next.Before(s.start.Add(s.budget)) {
		if err := s.rest(ctx, time.Now()); err != nil {
			return err
		}
	}
	if s.unsure {
		return s.check(ctx)
	}
	return ctx.Err()
}

// rest ends the slice and returns in the next one, which is to begin at a time.
func (s *session) rest(ctx context.Context, until time.Time) error {
	s.used += time.Since(s.start)
	if !s.yield(until) {
		return context.Canceled
	}
	s.start, s.asked, s.unsure = time.Now(), false, true
	return ctx.Err()
}

// patient does what asks the server. A pass that has begun to SCAN does not end
// because the server cannot answer for a moment.
func (s *session) patient(ctx context.Context, ask func() error) error {
	for try := 0; ; try++ {
		err := s.turn(ctx)
		if err == nil {
			err = ask()
		}
		if err == nil || !s.scanned || try == resumeTries || ctx.Err() != nil ||
			errors.Is(err, errRestarted) || !passing(status.ReasonOf(err)) {
			return err
		}
		if err := s.rest(ctx, time.Now().Add(firstRetry<<try)); err != nil {
			return err
		}
	}
}

// check finds out whether the server is still the one of which the pass has a
// cursor: a connection that breaks is replaced without a word.
func (s *session) check(ctx context.Context) error {
	now, err := s.identify(ctx, "server", "replication")
	if err != nil {
		return err
	}
	if now.runID != s.target.runID {
		return errRestarted
	}
	s.unsure = false
	s.target.replica = now.replica
	if s.offMaster && !now.replica {
		return errMaster
	}
	return nil
}

// confirm ends a pass: what SCAN found is whole when it was one server that
// answered.
func (s *session) confirm(ctx context.Context) error {
	if !s.scanned {
		return nil
	}
	return s.patient(ctx, func() error { return s.check(ctx) })
}

// What a pass spends its time on.
const (
	onAnswers = iota // waiting for the server
	onPauses         // those that keep the server at a tenth of its time
	onRate           // the agreed rate
	numSpent
)

// tooLong returns what to say of a pass that is given up.
func (s *session) tooLong() error {
	most := 0
	for what, d := range s.spent {
		if d > s.spent[most] {
			most = what
		}
	}
	why := [numSpent]string{
		onAnswers: "it mostly waited for answers: raise exporter.check-keys-batch-size",
		onPauses:  "it mostly paused, so that the server spends a tenth of its time on it: raise exporter.interval",
		onRate:    fmt.Sprintf("it mostly kept to exporter.scan-rate, %d keys per second: raise that", s.rate),
	}[most]
	text := fmt.Sprintf("given up after %s", s.limit)
	if done, total := s.progress.looked.Load(), s.progress.total.Load(); total > 0 {
		text += fmt.Sprintf(", %d of about %d keys looked at", min(done, total), total)
	}
	return status.WithReason(status.ReasonTimeout, errors.New(text+"; "+why+", or ask for less"))
}
