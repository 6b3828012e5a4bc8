package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// How one uploader is found among many.
//
// <instance>/lease.json says who takes a snapshot, or prunes. It is written only
// if it is still as it was read (Store.PutIf), so that of two that find it free
// one gets it. The holder writes it anew every quarter of its TTL and gives it
// back at the end.
//
// A holder that was killed is waited out: a lease that was not written anew for
// its TTL, by the own clock and from when it was first seen, is free. What the
// other's clock says is for people. The holder itself gives up when it could not
// write for its TTL, counted from before its last write, so that it always knows
// first.
//
// <instance>/verify-lease.json is kept in the same way by whoever verifies by
// schedule. It is another object, so that no snapshot ever waits for it.
//
// Where the store ignores conditions, the lease is written, and read back after a
// moment: of two the one that wrote last has it. That can fail; then two snapshots
// are taken, each whole and of its own name.

const (
	leaseName       = "lease.json"
	verifyLeaseName = "verify-lease.json"

	// DefaultLeaseTTL is how long a killed holder keeps the others waiting.
	DefaultLeaseTTL = time.Minute

	maxLeaseTTL  = time.Hour // that is believed of others
	leaseSettles = 3 * time.Second
)

// LeaseMode is how leases are kept in a store.
type LeaseMode string

// The modes. The set is closed: it is a metric label.
const (
	LeaseUnknown     LeaseMode = "unknown"     // none was written yet
	LeaseConditional LeaseMode = "conditional" // the store keeps two from having it
	LeaseBestEffort  LeaseMode = "best_effort" // the store ignores conditions
)

// ErrHeld is wrapped by the error for a lease that somebody else has.
var ErrHeld = errors.New("somebody else has the lease")

// HeldError says who has it.
type HeldError struct {
	Lease LeaseRecord
	// Fresh tells that the lease has not run out by the clocks of both: the holder
	// is most likely alive.
	Fresh bool
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s has the backup lease since %s (%s)", e.Lease.Holder, e.Lease.Acquired.Format(time.RFC3339), e.Lease.Purpose)
}

// Unwrap implements the chain of errors.Is.
func (e *HeldError) Unwrap() error { return ErrHeld }

// errLeaseLost is why work under a lease ends.
var errLeaseLost = errors.New("the backup lease was lost")

// LeaseRecord is the lease in the store.
type LeaseRecord struct {
	Holder   string    `json:"holder"` // pod/random text of its process; "" when nobody has it
	Pod      string    `json:"pod,omitempty"`
	Purpose  string    `json:"purpose,omitempty"`
	Acquired time.Time `json:"acquired,omitzero"`
	Expires  time.Time `json:"expires,omitzero"` // by the holder's clock; for people
	TTL      float64   `json:"ttl_seconds,omitempty"`
	Fence    uint64    `json:"fence"`              // one more for every holder
	Renewals uint64    `json:"renewals,omitempty"` // makes every version another one
	Process  *process  `json:"process,omitempty"`
}

// ttl is how long the lease stands without being renewed.
func (r LeaseRecord) ttl(fallback time.Duration) time.Duration {
	d := time.Duration(r.TTL * float64(time.Second))
	if d <= 0 || d > maxLeaseTTL {
		return fallback
	}
	return d
}

// LeaseOptions say who asks for a lease.
type LeaseOptions struct {
	Pod string
	TTL time.Duration // 0 is DefaultLeaseTTL
	Log *slog.Logger  // nil: no log
}

// Lease is the lease of one instance as one process sees it. Its methods may be
// called from any goroutine; it is held once at a time.
type Lease struct {
	store   Store
	key     string
	holder  string
	pod     string
	ttl     time.Duration
	settles time.Duration
	log     *slog.Logger
	process *process

	mu    sync.Mutex
	seen  string    // version of somebody else's lease
	since time.Time // when that version was first seen
	mode  LeaseMode
	held  bool
	last  LeaseRecord // as last read or written
}

// NewLease returns the lease of an instance, see ValidInstance. It asks nothing.
func NewLease(store Store, instance string, opts LeaseOptions) *Lease {
	return newLease(store, instance+"/"+leaseName, opts)
}

func newLease(store Store, key string, opts LeaseOptions) *Lease {
	l := &Lease{
		store: store, key: key, holder: cleanPod(opts.Pod) + "/" + rand.Text()[:10], pod: cleanPod(opts.Pod),
		ttl: opts.TTL, settles: leaseSettles, log: opts.Log, process: thisProcess(), mode: LeaseUnknown,
	}
	if l.ttl <= 0 {
		l.ttl = DefaultLeaseTTL
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l
}

// LeaseState is what is known of a lease.
type LeaseState struct {
	Mode   LeaseMode
	Held   bool        // by this process
	Record LeaseRecord // as last read or written
}

// State returns it; it asks nothing.
func (l *Lease) State() LeaseState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LeaseState{Mode: l.mode, Held: l.held, Record: l.last}
}

// Look reads who has the lease.
func (l *Lease) Look(ctx context.Context) error {
	_, _, err := l.read(ctx)
	return err
}

// Acquire takes the lease for a purpose, in a word or two. The error is a
// *HeldError when somebody else has it. The Hold must be released.
func (l *Lease) Acquire(ctx context.Context, purpose string) (*Hold, error) {
	h, err := l.acquire(ctx, purpose)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	return h, nil
}

// Do acquires the lease, calls do under it and gives it back. The error is a
// *HeldError when somebody else has it, and says so when the lease was lost in the
// middle; the context of do ends then.
func (l *Lease) Do(ctx context.Context, purpose string, do func(ctx context.Context) error) error {
	h, err := l.Acquire(ctx, purpose)
	if err != nil {
		return err
	}
	defer h.Release()             //nolint:contextcheck // it is derived from ctx
	return h.Err(do(h.Context())) //nolint:contextcheck // as above
}

func (l *Lease) acquire(ctx context.Context, purpose string) (*Hold, error) {
	rec, version, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.free(rec, version); err != nil {
		return nil, err
	}
	began := time.Now()
	mine := LeaseRecord{
		Holder: l.holder, Pod: l.pod, Purpose: purpose, Acquired: began.UTC().Round(time.Second), Expires: began.Add(l.ttl).UTC().Round(time.Second),
		TTL: l.ttl.Seconds(), Fence: rec.Fence + 1, Process: l.process,
	}
	h := &Hold{lease: l, record: mine, written: began, ended: make(chan struct{})}
	h.version, err = l.store.PutIf(ctx, l.key, encodeLease(mine), version)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, l.overtaken(ctx)
	case errors.Is(err, errors.ErrUnsupported):
		if err := l.acquireUnconditionally(ctx, h); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err // if it was written all the same, it is known as one's own next time
	default:
		l.learn(LeaseConditional)
	}
	l.mu.Lock()
	l.held, l.last = true, mine
	l.mu.Unlock()
	h.ctx, h.cancel = context.WithCancelCause(context.WithValue(ctx, holdKey{}, h))
	go h.keep() //nolint:contextcheck // it is derived from ctx
	return h, nil
}

// free tells whether a lease that was read may be taken; the error says who has it.
func (l *Lease) free(rec LeaseRecord, version string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rec.Holder == "" || rec.Holder == l.holder {
		return nil
	}
	now := time.Now()
	if version != l.seen {
		l.seen, l.since = version, now
	}
	ttl := rec.ttl(l.ttl)
	if now.Sub(l.since) >= ttl {
		l.log.Warn("the backup lease was not renewed: its holder is gone", "holder", rec.Holder, "for", now.Sub(l.since).Round(time.Second))
		return nil
	}
	if rec.Pod == l.pod && rec.Process.dead(l.process) {
		l.log.Warn("the process that has the backup lease is gone", "holder", rec.Holder)
		return nil
	}
	return &HeldError{Lease: rec, Fresh: rec.Expires.After(now)}
}

// overtaken says who was faster.
func (l *Lease) overtaken(ctx context.Context) error {
	rec, version, err := l.read(ctx)
	if err != nil {
		return err
	}
	if err := l.free(rec, version); err != nil {
		return err
	}
	return &HeldError{Lease: LeaseRecord{Holder: "somebody", Acquired: time.Now().UTC(), Purpose: "for a moment"}, Fresh: true}
}

// acquireUnconditionally writes the lease, lets others do the same, and looks who
// was the last.
func (l *Lease) acquireUnconditionally(ctx context.Context, h *Hold) error {
	if l.learn(LeaseBestEffort) {
		l.log.Warn("the store ignores conditional writes: two pods may take a snapshot at the same time; neither is damaged by that", "store", l.store.String())
	}
	if _, err := l.store.Put(ctx, l.key, bytes.NewReader(encodeLease(h.record))); err != nil {
		return err
	}
	if err := sleep(ctx, l.settles); err != nil {
		return err
	}
	rec, version, err := l.read(ctx)
	if err != nil {
		return err
	}
	if rec.Holder != l.holder {
		if err := l.free(rec, version); err != nil {
			return err
		}
		return &HeldError{Lease: rec, Fresh: true} // given back within the moment
	}
	return nil
}

// learn records how the store takes leases, and tells whether that is news.
func (l *Lease) learn(mode LeaseMode) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	news = l.mode != mode
	l.mode = mode
	return news
}

// read returns the lease and its version: none of both when there is no object.
// What is no lease is one of an unknown holder.
func (l *Lease) read(ctx context.Context) (LeaseRecord, string, error) {
	data, version, err := l.store.GetVersioned(ctx, l.key)
	if errors.Is(err, errors.ErrUnsupported) {
		data, version, err = l.readPlain(ctx)
	}
	var rec LeaseRecord
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return LeaseRecord{}, "", err
	default:
		if json.Unmarshal(data, &rec) != nil {
			rec = LeaseRecord{Holder: "somebody (" + path.Base(l.key) + " cannot be read)"}
		}
		rec.Holder, rec.Pod, rec.Purpose = legible(rec.Holder), legible(rec.Pod), legible(rec.Purpose)
	}
	l.mu.Lock()
	l.last = rec
	l.mu.Unlock()
	return rec, version, nil
}

// readPlain is for a store that tells no versions.
func (l *Lease) readPlain(ctx context.Context) ([]byte, string, error) {
	r, _, err := l.store.Get(ctx, l.key)
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, 64<<10))
	sum := sha256.Sum256(data)
	return data, hex.EncodeToString(sum[:]), err
}

// legible bounds a text from the store that goes to logs and labels.
func legible(text string) string {
	const most = 100
	clean := bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, []byte(text))
	return string(clean[:min(len(clean), most)])
}

func encodeLease(r LeaseRecord) []byte {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // plain fields
	}
	return append(b, '\n')
}

// Hold is a lease that is held, until it is released or lost.
type Hold struct {
	lease *Lease
	ended chan struct{} // closed when keep has returned

	ctx    context.Context //nolint:containedctx // it is what a holder works under
	cancel context.CancelCauseFunc

	// owned by keep, and by Release after it
	record  LeaseRecord
	version string
	lost    bool

	mu      sync.Mutex
	written time.Time // not after the last good write, by the monotonic clock
}

// Context is that of Acquire; it ends, too, when the lease is lost. See Err.
func (h *Hold) Context() context.Context { return h.ctx }

// Err replaces an error of the work under the lease by the loss of the lease, if
// that was the cause.
func (h *Hold) Err(err error) error {
	if cause := context.Cause(h.ctx); err != nil && errors.Is(cause, errLeaseLost) {
		return lostError(cause)
	}
	return err
}

func lostError(cause error) error {
	return status.WithHint(status.ReasonLease, "nothing was published; is the store slow, or was this process stopped for a while? see also backup.lease.ttl", cause)
}

// holdKey is where the context of work under a lease has its Hold.
type holdKey struct{}

// leaseLost returns why the work of ctx must not take effect: the lease that it is
// under is lost, or has run out, and somebody else may have it. A process that stood
// still would be told only when keep has had its turn. It asks nothing; nil where there
// is no lease.
func leaseLost(ctx context.Context) error {
	h, _ := ctx.Value(holdKey{}).(*Hold)
	if cause := context.Cause(ctx); errors.Is(cause, errLeaseLost) {
		return cause
	}
	if h == nil || time.Now().Before(h.until()) {
		return nil
	}
	return fmt.Errorf("%w: it ran out before it was renewed", errLeaseLost)
}

// until is when the lease runs out, unless it is renewed.
func (h *Hold) until() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.written.Add(h.lease.ttl)
}

func (h *Hold) wrote(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.written = began
}

// keep renews the lease until the context ends.
func (h *Hold) keep() {
	defer close(h.ended)
	interval := h.lease.ttl / 4
	pause := interval
	for sleep(h.ctx, pause) == nil {
		until := h.until()
		err := h.renew(until)
		if h.ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = interval
			continue
		}
		pause = interval / 3
		if errors.Is(err, errLeaseLost) || !time.Now().Before(until) {
			h.lost = true
			h.lease.setHeld(false)
			h.cancel(lostBecause(err))
			return
		}
		h.lease.log.Warn("the backup lease could not be renewed, it is tried again", "error", err, "left", time.Until(until).Round(time.Second))
	}
}

func lostBecause(err error) error {
	if errors.Is(err, errLeaseLost) {
		return err
	}
	return fmt.Errorf("%w: it could not be renewed: %w", errLeaseLost, err)
}

// renew writes the lease anew, once.
func (h *Hold) renew(until time.Time) error {
	l := h.lease
	began := time.Now()
	deadline := began.Add(l.ttl / 4)
	if until.Before(deadline) {
		deadline = until
	}
	ctx, cancel := context.WithDeadline(h.ctx, deadline)
	defer cancel()
	next := h.record
	next.Renewals++
	next.Expires = began.Add(l.ttl).UTC().Round(time.Second)
	return h.write(ctx, next, began)
}

// write replaces the lease if it is still the own one.
func (h *Hold) write(ctx context.Context, next LeaseRecord, began time.Time) error {
	l := h.lease
	if l.State().Mode == LeaseBestEffort {
		if _, err := h.adopt(ctx); err != nil {
			return err
		}
		if _, err := l.store.Put(ctx, l.key, bytes.NewReader(encodeLease(next))); err != nil {
			return err
		}
		h.record = next
		h.wrote(began)
		return nil
	}
	version, err := l.store.PutIf(ctx, l.key, encodeLease(next), h.version)
	if errors.Is(err, fs.ErrExist) {
		// The answer to an earlier write may have been lost.
		var rec LeaseRecord
		if rec, err = h.adopt(ctx); err == nil {
			next.Renewals = rec.Renewals + 1
			version, err = l.store.PutIf(ctx, l.key, encodeLease(next), h.version)
		}
		if errors.Is(err, fs.ErrExist) {
			err = errLeaseLost
		}
	}
	if err != nil {
		return err
	}
	h.record, h.version = next, version
	h.wrote(began)
	return nil
}

// adopt reads the lease and makes sure that it is the own one.
func (h *Hold) adopt(ctx context.Context) (LeaseRecord, error) {
	rec, version, err := h.lease.read(ctx)
	if err != nil {
		return LeaseRecord{}, err
	}
	if rec.Holder != h.record.Holder || rec.Fence != h.record.Fence {
		if rec.Holder == "" {
			return LeaseRecord{}, fmt.Errorf("%w: it is gone", errLeaseLost)
		}
		return LeaseRecord{}, fmt.Errorf("%w: %s has it", errLeaseLost, rec.Holder)
	}
	h.version = version
	return rec, nil
}

// Release gives the lease back, so that nobody waits for it to run out.
func (h *Hold) Release() {
	const timeout = 5 * time.Second // a pod that is told to end has not long
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), timeout)
	defer cancel()
	h.cancel(nil)
	<-h.ended
	if h.lost {
		return
	}
	l := h.lease
	l.setHeld(false)
	free := LeaseRecord{Fence: h.record.Fence, Renewals: h.record.Renewals + 1}
	if err := h.write(ctx, free, time.Now()); err != nil {
		l.log.Debug("the backup lease could not be given back, it runs out", "error", err)
		return
	}
	l.mu.Lock()
	l.last = free
	l.mu.Unlock()
}

func (l *Lease) setHeld(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
}

// leaseKey is where the lease of the instance is.
func (c *Catalogue) leaseKey() string { return c.instance + "/" + leaseName }

// verifyLeaseKey is where the lease of the instance's verifications is.
func (c *Catalogue) verifyLeaseKey() string { return c.instance + "/" + verifyLeaseName }

// Lease returns the lease of the catalogue's instance. It asks nothing.
func (c *Catalogue) Lease(opts LeaseOptions) *Lease { return NewLease(c.store, c.instance, opts) }
