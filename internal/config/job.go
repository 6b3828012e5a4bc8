package config

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Options of a Job. The zero value of a duration is its default.
type Options struct {
	// Path is the redis.conf. What it includes is followed; the paths must be the
	// same here as for the server.
	Path string
	// Debounce is how long the files must have been quiet before they are read.
	// The default is 250 ms.
	Debounce time.Duration
	// Interval is how often files and server are compared without an event: it
	// finds changes that no watch reported, a restarted server and values changed
	// by hand. The default is 30 s.
	Interval time.Duration
	// Timeout bounds one round trip to the server. The default is 5 s.
	Timeout time.Duration
	// Patience is how long a command is not repeated that the server refused:
	// for want of a permission, or because of a value. A changed file is tried at
	// once. The default is 1 minute.
	Patience time.Duration
}

// FailureReasons are the reasons with which the job fails, for
// [status.Board.Register].
func FailureReasons() []status.Reason {
	return []status.Reason{
		status.ReasonSyntax, status.ReasonFile, status.ReasonRejected,
		status.ReasonUnreachable, status.ReasonTimeout, status.ReasonTLS, status.ReasonAuth, status.ReasonNoPerm,
		status.ReasonUnknownCmd, status.ReasonLoading, status.ReasonBusy, status.ReasonMaxClients,
		status.ReasonRedis, status.ReasonProtocol,
	}
}

// Job keeps a running server equal to its redis.conf. The file is applied when it
// has changed and when the server has restarted; a value that somebody changes in
// between by hand is reported and left alone until then. It is also a
// metric.Source of the job's own metrics.
type Job struct {
	o       Options
	server  Server
	rep     *status.Reporter
	metrics *metrics

	// Of Run's goroutine alone.
	watch    *watcher
	peer     *peer     // the server as it was last seen; nil before
	applied  attempt   // what is known to be in force
	tried    attempt   // the last thing that was refused, and
	retryAt  time.Time // when it is sent again
	tryErr   error
	failures int  // in a row, for the backoff
	bad      bool // the file had problems when it was last read
	detail   Detail
}

// New returns a job. Nothing happens before Run.
func New(o Options, server Server, rep *status.Reporter) *Job {
	if o.Debounce <= 0 {
		o.Debounce = 250 * time.Millisecond
	}
	if o.Interval <= 0 {
		o.Interval = 30 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Patience <= 0 {
		o.Patience = time.Minute
	}
	return &Job{o: o, server: server, rep: rep, metrics: newMetrics()}
}

// Run works until ctx is done, and returns nil then. What goes wrong is reported
// and tried again.
func (j *Job) Run(ctx context.Context) error {
	j.watch = newWatcher()
	defer j.watch.close()
	for ctx.Err() == nil {
		begun := time.Now()
		delay := j.cycle(ctx)
		if ctx.Err() != nil {
			break
		}
		j.rep.Ran(time.Since(begun))
		j.rep.NextRun(time.Now().Add(delay))
		j.wait(ctx, delay)
	}
	return nil
}

// wait returns after the delay, or when the files have changed and been quiet
// for a while.
func (j *Job) wait(ctx context.Context, delay time.Duration) {
	clock := time.NewTimer(delay)
	defer clock.Stop()
	var quiet, enough <-chan time.Time
	touched := func() {
		quiet = time.After(j.o.Debounce)
		if enough == nil {
			enough = time.After(10 * j.o.Debounce)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-clock.C:
			return
		case <-quiet:
			return
		case <-enough: // they never get quiet
			return
		case e := <-j.watch.events():
			if j.watch.concerns(e) {
				touched()
			}
		case j.watch.err = <-j.watch.errors(): // events were lost
			touched()
		}
	}
}

// cycle compares files and server once, reports, and returns when to do it again.
func (j *Job) cycle(ctx context.Context) time.Duration {
	tree, problems := Load(j.o.Path)
	j.watch.follow(tree)
	err := j.reconcile(ctx, tree, problems)
	if ctx.Err() != nil {
		return 0
	}
	j.detail.Watching = j.watch.String()
	j.rep.Detail(j.detail.clone())
	if err == nil {
		j.failures = 0
		j.report(tree)
		return j.o.Interval
	}
	j.rep.Failure(err)
	switch status.ReasonOf(err) {
	case status.ReasonSyntax, status.ReasonFile, status.ReasonRejected, status.ReasonNoPerm, status.ReasonUnknownCmd:
		// Time does not mend these.
		j.failures = 0
		return j.o.Interval
	}
	return j.backoff()
}

// backoff doubles from half a second up to the interval, with jitter.
func (j *Job) backoff() time.Duration {
	d := min(500*time.Millisecond<<min(j.failures, 10), j.o.Interval)
	j.failures++
	return d/2 + rand.N(d/2+1)
}
