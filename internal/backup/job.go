package backup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Reasons returns the reasons a snapshot can fail for, to register the job with.
func Reasons() []status.Reason {
	return []status.Reason{
		status.ReasonUnreachable, status.ReasonTimeout, status.ReasonAuth, status.ReasonNoPerm, status.ReasonLoading,
		status.ReasonMasterDown, status.ReasonRejected, status.ReasonRedis,
		status.ReasonStoreUnreachable, status.ReasonStoreDenied, status.ReasonStoreMissing, status.ReasonStore,
		status.ReasonDiskFull, status.ReasonMemory, status.ReasonFile, status.ReasonMisconf, status.ReasonSave, status.ReasonSaveBusy, status.ReasonVerify, status.ReasonCorrupt, status.ReasonKey,
	}
}

// Options say what the job does.
type Options struct {
	Snapshot SnapshotOptions
	Schedule Schedule
	// Jitter is the most that a scheduled run is put off, by chance, so that many
	// pods with one schedule do not all save at once. 0 is none.
	Jitter time.Duration
	// Retention says which snapshots stay, see Catalogue.Prune.
	Retention Retention
	// Drain is how long a snapshot in progress may go on after the job was asked
	// to stop. 0 ends it at once.
	Drain time.Duration
	// After a failure the run is repeated after RetryMin, then after twice as
	// long and so on up to RetryMax, until it succeeds. The defaults are 1 and 30
	// minutes.
	RetryMin, RetryMax time.Duration
}

// refreshEvery is how often the catalogue is read between two runs: others add to
// it, backup now among them, and a store that is gone is better known before the
// next run than after it. It costs one listing.
const refreshEvery = 10 * time.Minute

// detailSnapshots is how many snapshots the status page shows.
const detailSnapshots = 10

// Detail is what the job tells the status page.
type Detail struct {
	Store        string         `json:"store,omitempty"`
	Instance     string         `json:"instance"`
	Schedule     string         `json:"schedule"`
	Count        int            `json:"count"`     // of snapshots in the store, as far as known
	Snapshots    []SnapshotLine `json:"snapshots"` // the newest, newest first
	LastDuration float64        `json:"last_duration_seconds,omitempty"`
	LastFailure  string         `json:"last_failure,omitempty"` // gone after the next success
	Running      *Progress      `json:"running,omitempty"`

	Source        string `json:"source,omitempty"` // of the newest snapshot, and why
	SourceReason  string `json:"source_reason,omitempty"`
	WritesRefused string `json:"writes_refused,omitempty"` // what is in the way of the save that would end it
	LeftoverFiles int    `json:"leftover_files,omitempty"` // temporary files that killed servers have left
	LeftoverBytes int64  `json:"leftover_bytes,omitempty"`
}

// SnapshotLine is one snapshot on the status page.
type SnapshotLine struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Plain  int64     `json:"plain_bytes,omitempty"`
	Stored int64     `json:"stored_bytes,omitempty"`
	Keys   uint64    `json:"keys"`
	Error  string    `json:"error,omitempty"` // the manifest is damaged
}

// Job takes snapshots by schedule and removes old ones.
type Job struct {
	opts  Options
	redis Redis
	open  func(context.Context) (Store, error)
	rep   *status.Reporter
	mend  *mender

	// Owned by the goroutine of Run.
	snapshotter *Snapshotter // nil until the store was opened
	entries     map[string]Entry
	lastGood    time.Time // CreatedAt of the newest snapshot that is not damaged
	take        func(ctx context.Context, progress func(Progress)) (Manifest, error)

	mu     sync.Mutex // guards what Collect reads
	detail Detail
	last   Manifest // newest that is not damaged; zero until known
}

// New returns the job. open is called by Run, again and again until it succeeds
// once: a store that is away at the start of the program is no obstacle.
func New(opts Options, redis Redis, open func(context.Context) (Store, error), rep *status.Reporter) (*Job, error) {
	if opts.Schedule.IsZero() {
		return nil, errors.New("backup: no schedule")
	}
	if _, err := NewSnapshotter(opts.Snapshot, redis, nil); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if opts.RetryMin <= 0 {
		opts.RetryMin = time.Minute
	}
	if opts.RetryMax <= 0 {
		opts.RetryMax = 30 * time.Minute
	}
	if opts.Snapshot.Log == nil {
		opts.Snapshot.Log = rep.Logger()
	}
	j := &Job{opts: opts, redis: redis, open: open, rep: rep}
	j.mend = newMender(j.opts.Snapshot, redis, j.opts.Snapshot.Log)
	j.take = func(ctx context.Context, progress func(Progress)) (Manifest, error) {
		return j.snapshotter.Snapshot(ctx, progress)
	}
	j.setDetail(func(d *Detail) {
		d.Instance, d.Schedule, d.Snapshots = opts.Snapshot.Instance, opts.Schedule.String(), []SnapshotLine{}
	})
	return j, nil
}

// Run takes snapshots by schedule, one at a time, until ctx ends. It returns nil;
// what fails is reported and tried again. A snapshot in progress when ctx ends
// goes on, for as long as Options.Drain, or until hurry is closed.
func (j *Job) Run(ctx context.Context, hurry <-chan struct{}) error {
	defer j.startMending(ctx)()
	// What is in the store already is worth knowing at once: whether the store
	// is there, and how old the last snapshot is.
	other, otherAt, failures := looking, time.Now(), 0
	next := j.plan(j.opts.Schedule.Next(time.Now()))
	looked := false
	for {
		at := next
		if otherAt.Before(at) {
			at = otherAt
		}
		if !waitUntil(ctx, at) {
			return nil
		}
		task, scheduled := other, !time.Now().Before(next)
		if scheduled {
			task = saving
		}
		work, release := drain(ctx, hurry, j.opts.Drain)
		err := j.do(work, task)
		stopped := work.Err() != nil
		release()
		if stopped && err != nil {
			return nil //nolint:nilerr // stopped, not failed
		}
		now := time.Now()
		if scheduled {
			next = j.planAfter(next, now)
		}
		if err != nil {
			j.failed(err)
			if task == refreshing {
				task = looking // it says when the store is back
			}
			other, otherAt = task, now.Add(j.backoff(failures, err))
			failures++
			continue
		}
		if !looked && !scheduled {
			next = j.catchUp(next, now)
		}
		if task == saving {
			task = refreshing // what a snapshot said stands until the next
		}
		other, otherAt, failures, looked = task, now.Add(refreshEvery), 0, true
	}
}

// task is what the job does at one time.
type task int

const (
	looking    task = iota // read the catalogue and say what it holds
	refreshing             // read it, and say nothing unless that fails
	saving                 // take a snapshot
)

func (j *Job) do(ctx context.Context, t task) error {
	switch t {
	case saving:
		return j.snapshot(ctx)
	case refreshing:
		return j.refresh(ctx)
	default:
		return j.look(ctx)
	}
}

// drain returns a context that outlives ctx by d, unless hurry is closed first.
func drain(ctx context.Context, hurry <-chan struct{}, d time.Duration) (work context.Context, release func()) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer cancel()
		select {
		case <-ctx.Done():
		case <-work.Done():
			return
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-hurry:
		case <-work.Done():
		}
	}()
	return work, func() {
		cancel()
		<-ended
	}
}

// waitUntil waits for a time of day and reports whether it came before the end of
// ctx. It looks at the clock every now and then: clocks are set, machines sleep.
func waitUntil(ctx context.Context, at time.Time) bool {
	for {
		left := time.Until(at.Round(0)) // by the wall clock
		if left <= 0 {
			return ctx.Err() == nil
		}
		if sleep(ctx, min(left, time.Minute)) != nil {
			return false
		}
	}
}

// plan announces the next run and returns when it is to begin.
func (j *Job) plan(tick time.Time) time.Time {
	j.rep.NextRun(tick)
	if j.opts.Jitter > 0 {
		tick = tick.Add(rand.N(j.opts.Jitter))
	}
	return tick
}

// planAfter plans the run after the one that was due at began. Runs that came due
// meanwhile are left out.
func (j *Job) planAfter(began, now time.Time) time.Time {
	missed := 0
	tick := j.opts.Schedule.Next(began)
	for ; tick.Before(now) && missed < 1000; tick = j.opts.Schedule.Next(tick) {
		missed++
	}
	if missed > 0 {
		j.rep.Logger().Warn("runs were skipped: the one before them took too long", "runs", missed, "took", now.Sub(began).Round(time.Second))
	}
	if tick.Before(now) {
		tick = j.opts.Schedule.Next(now)
	}
	return j.plan(tick)
}

// catchUp lets an @every schedule go on from the last snapshot instead of from
// the start of the program: a pod that restarts more often than the interval
// would otherwise never take one.
func (j *Job) catchUp(next, now time.Time) time.Time {
	every := j.opts.Schedule.Interval()
	if every == 0 || j.lastGood.IsZero() {
		return next
	}
	due := j.lastGood.Add(every)
	if due.Before(now) {
		due = now
	}
	if !due.Before(next) {
		return next
	}
	return j.plan(due.UTC())
}

// backoff returns how long to wait after so many failures before this one.
func (j *Job) backoff(failures int, err error) time.Duration {
	least := j.opts.RetryMin
	if errors.Is(err, errWritesRefused) {
		least /= 6 // only a save that succeeds makes the server writable again
	}
	d := least
	for range failures {
		if d *= 2; d >= j.opts.RetryMax {
			d = j.opts.RetryMax
			break
		}
	}
	return d/2 + rand.N(d/2+1)
}

func (j *Job) failed(err error) {
	j.setDetail(func(d *Detail) { d.LastFailure = err.Error() })
	j.rep.Failure(err)
}

// look opens the store and reads the catalogue.
func (j *Job) look(ctx context.Context) error {
	if err := j.refresh(ctx); err != nil {
		return err
	}
	j.mu.Lock()
	last, count := j.last, j.detail.Count
	j.mu.Unlock()
	if last.ID == "" {
		j.rep.Success("no snapshot yet")
	} else {
		j.rep.Success(fmt.Sprintf("%d snapshots, the last is %s", count, last.ID))
	}
	return nil
}

// snapshot takes one and prunes.
func (j *Job) snapshot(ctx context.Context) error {
	began := time.Now()
	defer func() { j.rep.Ran(time.Since(began)) }()
	if err := j.openStore(ctx); err != nil {
		return err
	}
	m, err := j.take(ctx, func(p Progress) { j.setDetail(func(d *Detail) { d.Running = &p }) })
	left, leftBytes := j.snapshotter.Leftovers()
	j.setDetail(func(d *Detail) { d.Running, d.LeftoverFiles, d.LeftoverBytes = nil, left, leftBytes })
	if errors.Is(err, ErrStandby) {
		// Another pod takes them: how is it doing?
		if err := j.refresh(ctx); err != nil {
			return err
		}
		j.setDetail(func(d *Detail) { d.LastFailure = "" })
		j.rep.Success("standing by: " + err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	took := time.Since(began)
	j.setDetail(func(d *Detail) { d.LastFailure, d.LastDuration = "", seconds(took) })
	message := fmt.Sprintf("snapshot %s: %d keys, %s, %s stored, in %s", m.ID, m.RDB.Keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size), took.Round(time.Millisecond))

	j.remember(m)
	pruned, err := j.snapshotter.catalogue.Prune(ctx, j.opts.Retention, false)
	if len(pruned.Deleted)+len(pruned.Orphans) > 0 {
		j.rep.Logger().Info("deleted by retention", "snapshots", pruned.Deleted, "abandoned_uploads", len(pruned.Orphans))
	}
	if err == nil {
		err = j.refresh(ctx)
	}
	switch {
	case err != nil:
		j.rep.Warn(status.ReasonOf(err), message+"; but: "+err.Error())
	case j.mend.state() != "":
		j.rep.Warn(status.ReasonMisconf, message+"; but the server refuses writes (MISCONF) until a save succeeds: "+j.mend.state())
	case len(pruned.Ahead) > 0:
		j.rep.Warn(status.ReasonRetention, message+fmt.Sprintf("; but %d snapshots are dated in the future and hide it from a restore of the latest: check the clocks, then delete them by hand; the first is %s", len(pruned.Ahead), pruned.Ahead[0]))
	case pruned.Spared != "":
		j.rep.Warn(status.ReasonRetention, message+"; no newer snapshot holds keys, so the retention keeps "+pruned.Spared)
	case pruned.Guarded != "":
		j.rep.Warn(status.ReasonRetention, message+"; no newer snapshot holds a tenth of the keys of "+pruned.Guarded+", which the retention keeps: restore it, or delete it if that is right")
	default:
		j.rep.Success(message)
	}
	return nil
}

func (j *Job) openStore(ctx context.Context) error {
	if j.snapshotter != nil {
		return nil
	}
	store, err := j.open(ctx)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if j.snapshotter, err = NewSnapshotter(j.opts.Snapshot, j.redis, store); err != nil {
		return err
	}
	j.setDetail(func(d *Detail) { d.Store = store.String() })
	return nil
}

// refresh reads what is new in the catalogue: one listing, and the manifests it
// has not seen yet, which never change.
func (j *Job) refresh(ctx context.Context) error {
	const timeout = 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := j.openStore(ctx); err != nil {
		return err
	}
	catalogue, err := j.snapshotter.Locate(ctx)
	if err != nil {
		return err
	}
	ids, err := catalogue.IDs(ctx)
	if err != nil {
		return err
	}
	entries := map[string]Entry{}
	var newest Manifest
	lines := []SnapshotLine{}
	for _, id := range ids[:min(len(ids), detailSnapshots)] {
		e, ok := j.entries[id]
		if !ok || e.Err != nil {
			if e, err = catalogue.entry(ctx, id); err != nil {
				return err
			}
			if errors.Is(e.Err, ErrNotFound) {
				continue // deleted a moment ago
			}
		}
		entries[id] = e
		line := SnapshotLine{ID: id, Time: e.Time, Plain: e.Manifest.RDB.Size, Stored: e.Manifest.Object.Size, Keys: e.Manifest.RDB.Keys}
		if e.Err != nil {
			line.Error = e.Err.Error()
		} else if newest.ID == "" {
			newest = e.Manifest
		}
		lines = append(lines, line)
	}
	j.entries = entries
	j.remember(newest)
	j.setDetail(func(d *Detail) { d.Instance, d.Count, d.Snapshots = catalogue.Instance(), len(ids), lines })
	return nil
}

// remember sets the newest snapshot known; its ID may be empty.
func (j *Job) remember(m Manifest) {
	j.lastGood = m.CreatedAt
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = m
	j.detail.Source, j.detail.SourceReason = m.Source, m.SourceReason
}

// setDetail changes a copy of the detail and publishes it.
func (j *Job) setDetail(change func(*Detail)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.detail)
	j.rep.Detail(j.detail)
}
