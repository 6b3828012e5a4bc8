package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// ErrRunning is wrapped by the error for a request that comes while this pod takes
// a snapshot: its data is of an earlier moment than the request.
var ErrRunning = errors.New("a snapshot is being taken")

// errNotServing is why a request is not taken.
var errNotServing = errors.New("the backup job takes no requests now")

// Outcome is what came of a request.
type Outcome struct {
	Manifest Manifest
	Err      error
}

// request is a snapshot asked for.
type request struct {
	begun chan struct{} // closed when it is being taken
	done  chan Outcome  // gets one
}

func newRequest() *request {
	return &request{begun: make(chan struct{}), done: make(chan Outcome, 1)}
}

func (r *request) start() { close(r.begun) }

// ask hands a request to Run. The error wraps ErrRunning, or says that it was not
// taken within patience.
func (j *Job) ask(ctx context.Context, patience time.Duration) (*request, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req := newRequest()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		j.mu.Lock()
		running := j.detail.Running
		j.mu.Unlock()
		if running != nil {
			return nil, status.WithHint(status.ReasonLease, "its data is of a moment before this request: when it is done, try again",
				fmt.Errorf("%w: it is %s", ErrRunning, running.Phase))
		}
		select {
		case j.requests <- req:
			return req, nil
		case <-tick.C:
		case <-j.ended:
			return nil, status.WithReason(status.ReasonCanceled, fmt.Errorf("%w: the sidecar ends", errNotServing))
		case <-ctx.Done():
			return nil, status.WithHint(status.ReasonTimeout, "it reads the store: try again", errNotServing)
		}
	}
}
