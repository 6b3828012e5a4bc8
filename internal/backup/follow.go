package backup

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// child watches the fork child of one save from the outside.
type child struct {
	gone chan struct{} // closed when it does not run any more, or is not to be learnt about

	// Valid once gone.
	err   error     // why it is not to be learnt about
	ok    bool      // the server's verdict: rdb_last_bgsave_status
	runID string    // of the server then
	ended time.Time // when that was seen
}

// defaultPatience is how long a server may not answer during its save.
const defaultPatience = 30 * time.Second

// watchChild asks the server from time to time whether the child of s still
// runs, until it does not, or ctx ends. The caller waits for gone.
func watchChild(ctx context.Context, redis Redis, s *save) *child {
	const (
		first = 10 * time.Millisecond
		last  = 150 * time.Millisecond
	)
	patience := s.patience
	if patience == 0 {
		patience = defaultPatience
	}
	c := &child{gone: make(chan struct{})}
	go func() {
		defer close(c.gone)
		answered := time.Now()
		for interval := first; ; interval = min(2*interval, last) {
			if c.err = sleep(ctx, interval); c.err != nil {
				return
			}
			in, server, err := askChild(ctx, redis)
			switch {
			case err == nil:
				answered = time.Now()
				if !s.running(in) {
					c.ok = in.Get("rdb_last_bgsave_status") == "ok"
					c.runID, c.ended = server.Get("run_id"), answered
					return
				}
			case ctx.Err() != nil:
				c.err = context.Cause(ctx)
				return
			case time.Since(answered) > patience:
				c.err = goneError(patience, err)
				return
			}
		}
	}()
	return c
}

// lostServerError is the error of a server that does not answer any more. It says so
// first, wherever it is noticed.
type lostServerError struct{ error }

func (e lostServerError) Unwrap() error { return e.error }

// goneError is why a save is given up whose server has not answered for so long.
func goneError(d time.Duration, err error) error {
	what := "redis-server does not answer"
	if status.ReasonOf(err) == status.ReasonUnreachable {
		what = "redis-server is gone"
	}
	return lostServerError{fmt.Errorf("%s: it said nothing for %v during the save: %w", what, d, err)}
}

// askChild asks for the child's state and for who answers, in one exchange.
func askChild(ctx context.Context, redis Redis) (persistence, server info.Info, err error) {
	replies, err := pipeline(ctx, redis, []string{"INFO", "persistence"}, []string{"INFO", "server"})
	if err != nil {
		return info.Info{}, info.Info{}, err
	}
	if persistence, err = infoReply(replies[0]); err == nil {
		server, err = infoReply(replies[1])
	}
	return persistence, server, err
}

// follower reads a file that a child still writes. It ends with io.EOF only when
// the child is gone and everything it wrote was read.
type follower struct {
	f     *os.File
	child *child
	done  <-chan struct{} // ends the waiting
	cause func() error    // why done was closed
}

func (r *follower) Read(p []byte) (int, error) {
	const interval = 15 * time.Millisecond
	var timer *time.Timer
	for gone := false; ; {
		n, err := r.f.Read(p)
		if n > 0 || err == nil && len(p) == 0 {
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, status.WithReason(status.ReasonFile, marked{err, errDataDir})
		}
		if gone {
			if r.child.err != nil {
				return 0, r.child.err
			}
			return 0, io.EOF
		}
		if timer == nil {
			timer = time.NewTimer(interval)
			defer timer.Stop()
		} else {
			timer.Reset(interval)
		}
		select {
		case <-r.child.gone:
			gone = true // it may have written since the last read
		case <-r.done:
			return 0, r.cause()
		case <-timer.C:
		}
	}
}

// sleep waits for d, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
