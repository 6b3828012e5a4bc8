package backup

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Reasons returns the reasons a snapshot can fail for, to register the job with.
func Reasons() []status.Reason {
	return []status.Reason{
		status.ReasonUnreachable, status.ReasonTimeout, status.ReasonAuth, status.ReasonNoPerm, status.ReasonLoading,
		status.ReasonMasterDown, status.ReasonRejected, status.ReasonRedis,
		status.ReasonStoreUnreachable, status.ReasonStoreDenied, status.ReasonStoreMissing, status.ReasonStore,
		status.ReasonDiskFull, status.ReasonMemory, status.ReasonFile, status.ReasonMisconf, status.ReasonSave, status.ReasonSaveBusy, status.ReasonVerify,
		status.ReasonCorrupt, status.ReasonKey, status.ReasonLease,
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
	// Verify says when snapshots are verified; the zero value is never.
	Verify VerifyPlan
	// Drain is how long a snapshot in progress may go on after the job was asked
	// to stop. 0 ends it at once.
	Drain time.Duration
	// OnStart has a snapshot taken at the start if the newest is older, or if there
	// is none. 0: not.
	OnStart time.Duration
	// OnShutdown has a last snapshot taken when the job is asked to stop, within
	// Drain.
	OnShutdown bool
	// LeaseTTL is how long a killed pod keeps the others from taking snapshots. 0
	// is DefaultLeaseTTL.
	LeaseTTL time.Duration
	// After a failure the run is repeated after RetryMin, then after twice as
	// long and so on up to RetryMax, until it succeeds. The defaults are 1 and 30
	// minutes.
	RetryMin, RetryMax time.Duration
}

// refreshEvery is how often the catalogue is read between two runs: others add to
// it, backup now among them, and a store that is gone is better known before the
// next run than after it. It costs one listing.
const refreshEvery = 10 * time.Minute

// lostQuietly is how many looks in a row, half a minute, nothing is said of a server
// that has not answered yet.
const lostQuietly = 5

// detailSnapshots is how many snapshots the status page shows.
const detailSnapshots = 10

// Detail is what the job tells the status page.
type Detail struct {
	Store        string         `json:"store,omitempty"`
	Instance     string         `json:"instance"`
	Schedule     string         `json:"schedule"`
	Role         Role           `json:"role"`                  // backup.role
	Server       string         `json:"server_role,omitempty"` // of the server when it was last asked
	Lease        *LeaseLine     `json:"lease,omitempty"`       // as last seen; absent until then
	Waiting      string         `json:"waiting,omitempty"`     // why a run that is due has not begun
	LastRun      *RunLine       `json:"last_run,omitempty"`    // of this pod
	Count        int            `json:"count"`                 // of snapshots in the store, as far as known
	Snapshots    []SnapshotLine `json:"snapshots"`             // the newest, newest first
	LastDuration float64        `json:"last_duration_seconds,omitempty"`
	LastFailure  string         `json:"last_failure,omitempty"` // gone after the next success
	RetryAt      time.Time      `json:"retry_at,omitzero"`      // when a run that failed is tried again
	Running      *Progress      `json:"running,omitempty"`
	Verifying    *Progress      `json:"verifying,omitempty"`

	Source        string `json:"source,omitempty"` // of the newest snapshot, and why
	SourceReason  string `json:"source_reason,omitempty"`
	WritesRefused string `json:"writes_refused,omitempty"` // what is in the way of the save that would end it
	LeftoverFiles int    `json:"leftover_files,omitempty"` // temporary files that killed servers have left
	LeftoverBytes int64  `json:"leftover_bytes,omitempty"`
}

// LeaseLine is the lease on the status page.
type LeaseLine struct {
	Holder string    `json:"holder"` // "" when nobody has it
	Mine   bool      `json:"mine"`
	Since  time.Time `json:"since,omitzero"`
	Mode   LeaseMode `json:"mode"`
}

// RunLine is how the last run of this pod went.
type RunLine struct {
	Trigger Trigger   `json:"trigger"`
	Began   time.Time `json:"began"`
	ID      string    `json:"id,omitempty"` // of the snapshot
	Error   string    `json:"error,omitempty"`
	// Phases is how long it was in each, in seconds.
	Phases map[string]float64 `json:"phases,omitempty"`
}

// SnapshotLine is one snapshot on the status page.
type SnapshotLine struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Plain      int64     `json:"plain_bytes,omitempty"`
	Stored     int64     `json:"stored_bytes,omitempty"`
	Keys       uint64    `json:"keys"`
	Pod        string    `json:"pod,omitempty"`
	Source     string    `json:"source,omitempty"`
	Encrypted  bool      `json:"encrypted,omitempty"`
	Verified   string    `json:"verified,omitempty"`     // the level that it has passed, by Verification
	VerifiedAt time.Time `json:"verified_at,omitzero"`   // when that was, or when the damage was found
	Later      string    `json:"later,omitempty"`        // the level that it has passed since, a lesser one
	LaterAt    time.Time `json:"later_at,omitzero"`      // when that was
	Kept       []string  `json:"kept_because,omitempty"` // by the last run of the retention of this pod
	Error      string    `json:"error,omitempty"`        // manifest or data are damaged
}

// Job takes snapshots by schedule and on demand, and removes old ones.
type Job struct {
	opts  Options
	redis Redis
	open  func(context.Context) (Store, error)
	rep   *status.Reporter
	mend  *mender

	// Owned by the goroutine of Run.
	snapshotter *Snapshotter // nil until the store was opened
	lease       *Lease       // nil until it was asked for
	entries     map[string]Entry
	present     Manifest  // the newest that is neither damaged nor of the future, see Ahead; zero until known
	counted     string    // id of the snapshot that an @every schedule was last counted from
	tick        time.Time // the scheduled time that the next run is for
	lost        int       // looks in a row at which it was not known where the snapshots are, see Snapshotter.lost
	take        func(ctx context.Context, progress func(Progress)) (Manifest, error)
	stand       func(ctx context.Context) (standing, error)

	requests chan *request
	early    *request      // taken already, by what was interrupted for it; owned by the goroutine of Run
	ended    chan struct{} // closed when Run takes no more requests

	verify verifying

	mu     sync.Mutex // guards what the metrics and requests read
	detail Detail
	last   Manifest // newest that is not damaged; zero until known
	count  counters
}

// New returns the job. open is called by Run, again and again until it succeeds
// once: a store that is away at the start of the program is no obstacle.
func New(opts Options, redis Redis, open func(context.Context) (Store, error), rep *status.Reporter) (*Job, error) {
	if opts.Schedule.IsZero() {
		return nil, errors.New("backup: no schedule")
	}
	s, err := NewSnapshotter(opts.Snapshot, redis, nil)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	opts.Snapshot.Role = s.opts.Role
	if opts.RetryMin <= 0 {
		opts.RetryMin = time.Minute
	}
	if opts.RetryMax <= 0 {
		opts.RetryMax = 30 * time.Minute
	}
	if opts.LeaseTTL <= 0 {
		opts.LeaseTTL = DefaultLeaseTTL
	}
	if opts.Snapshot.Log == nil {
		opts.Snapshot.Log = rep.Logger()
	}
	j := &Job{opts: opts, redis: redis, open: open, rep: rep, requests: make(chan *request), ended: make(chan struct{}), count: newCounters()}
	j.verify.unrecorded = map[string]unrecorded{}
	j.mend = newMender(j.opts.Snapshot, redis, j.opts.Snapshot.Log)
	j.take = func(ctx context.Context, progress func(Progress)) (Manifest, error) {
		return j.snapshotter.Snapshot(ctx, progress)
	}
	j.stand = func(ctx context.Context) (standing, error) { return j.snapshotter.standing(ctx) }
	j.setDetail(func(d *Detail) {
		d.Instance, d.Schedule, d.Role, d.Snapshots = opts.Snapshot.Instance, opts.Schedule.String(), opts.Snapshot.Role, []SnapshotLine{}
	})
	return j, nil
}

// Run takes snapshots by schedule and on demand, one at a time, until ctx ends. It
// returns nil; what fails is reported and tried again. A snapshot in progress when
// ctx ends goes on, for as long as Options.Drain, or until hurry is closed.
func (j *Job) Run(ctx context.Context, hurry <-chan struct{}) error {
	defer close(j.ended)
	defer j.startMending(ctx)()
	stopped := make(chan time.Time, 1)
	defer context.AfterFunc(ctx, func() { stopped <- time.Now() })()

	// What is in the store already is worth knowing at once: whether the store
	// is there, and how old the last snapshot is.
	look := visit{task: looking, at: time.Now()}
	next := j.plan(j.opts.Schedule.Next(time.Now()))
	var due *turn
	for {
		j.sayRetry(due)
		at := next
		if due != nil && due.at.Before(at) {
			at = due.at
		}
		if (due == nil || due.failing()) && look.at.Before(at) {
			at = look.at
		}
		req, ok := j.wait(ctx, at)
		if !ok {
			return j.lastOne(ctx, hurry, <-stopped)
		}
		now := time.Now()
		scheduled := req == nil && !now.Before(next)
		if scheduled {
			due = j.scheduled(due, now)
		}
		this := due
		if req != nil {
			this = &turn{trigger: TriggerRequest, tick: now, request: req}
		} else if due == nil || now.Before(due.at) {
			this = nil
		}

		work, release := drain(ctx, hurry, j.opts.Drain)
		var err error
		if this != nil {
			err = j.run(work, this)
		} else if due != nil {
			err = j.look(work, refreshing) // that it can be read is no news while snapshots fail
		} else {
			err = j.look(work, look.task)
		}
		ended := work.Err() != nil
		release()
		if ended && err != nil {
			return j.lastOne(ctx, hurry, <-stopped) // stopped, not failed
		}
		now = time.Now()
		if scheduled {
			next = j.planAfter(next, now)
		}
		switch {
		case this == nil:
			switch {
			case err != nil || j.lost > 0:
			case due == nil && !look.done:
				next, due = j.catchUp(next, now)
			default:
				next = j.replan(next, now)
			}
			if err == nil && (due == nil || !due.failing()) {
				j.tell()
			}
			if err == nil && (due == nil || due.failing()) {
				j.verifyDue(ctx, next, due)
				now = time.Now()
			}
			said := due != nil && due.failing() && due.away && ofTheStore(err) // by the try
			if err != nil && !said {
				j.failed(err)
			}
			look.after(err, now, j)
		case this.over && err == nil:
			if req == nil || due != nil && !j.present.CreatedAt.Before(due.tick) {
				due = nil
			}
			look = visit{task: refreshing, at: now.Add(refreshEvery), done: true} // what a snapshot said stands until the next
			if j.due(now) {
				look.at = now.Add(verifySoon)
			}
			next = j.replan(next, now)
		case this.over:
			j.failed(err)
			if due == nil {
				due = this // a request that failed is not forgotten
			}
			due.pause = j.backoff(due.failures, err)
			due.at = now.Add(due.pause)
			due.failures++
			due.away = ofTheStore(err)
			j.logRetry(due, err)
			if j.due(now) && !due.away {
				look.at = now // the pause is the time for it
			}
		}
	}
}

// sayRetry brings to the status page when a run that failed is tried again, which
// the time of the next scheduled one hides.
func (j *Job) sayRetry(due *turn) {
	var at time.Time
	if due != nil && due.failing() {
		at = due.at.Round(0).UTC()
	}
	j.mu.Lock()
	same := j.detail.RetryAt.Equal(at)
	j.mu.Unlock()
	if !same {
		j.setDetail(func(d *Detail) { d.RetryAt = at })
	}
}

// logRetry logs every failed run, not the first only, which changes the state: who
// reads the log of a day finds what has been failing for a week.
func (j *Job) logRetry(due *turn, err error) {
	at := due.at.UTC().Truncate(time.Second)
	if due.failures == 1 {
		j.rep.Logger().Info("it is tried again", "at", at)
		return
	}
	j.rep.Logger().Error("it failed again", "failures", due.failures, "reason", string(status.ReasonOf(err)), "error", err, "next_try", at)
}

// ofTheStore tells whether err is one of the store.
func ofTheStore(err error) bool {
	switch status.ReasonOf(err) {
	case status.ReasonStoreUnreachable, status.ReasonStoreDenied, status.ReasonStoreMissing, status.ReasonStore:
		return true
	}
	return false
}

// visit is a look into the catalogue between two runs.
type visit struct {
	task     task
	at       time.Time
	failures int
	done     bool // one has succeeded
}

// task is what a visit is for.
type task int

const (
	looking    task = iota // read the catalogue and say what it holds
	refreshing             // read it, and say nothing unless that fails
)

// after plans the next visit.
func (v *visit) after(err error, now time.Time, j *Job) {
	if err != nil {
		v.task = looking // it says when the store is back
		v.at = now.Add(j.backoff(v.failures, err))
		v.failures++
		return
	}
	v.failures = 0
	if j.lost > 0 { // no longer than it has taken so far
		v.at = now.Add(min(refreshEvery, time.Second<<min(j.lost-1, 10)))
		return
	}
	v.at, v.done = now.Add(refreshEvery), true
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

// wait waits for a time of day or for a request, whichever comes first; ok is
// false when ctx ends before both. It looks at the clock every now and then: clocks
// are set, machines sleep.
func (j *Job) wait(ctx context.Context, at time.Time) (req *request, ok bool) {
	req, j.early = j.early, nil
	if req == nil {
		req = j.await(ctx, at)
	}
	switch {
	case ctx.Err() == nil:
		return req, true
	case req != nil:
		req.done <- Outcome{Err: status.WithReason(status.ReasonCanceled, fmt.Errorf("%w: the sidecar ends", errNotServing))}
	}
	return nil, false
}

// await returns at a time of day, or when ctx ends, or with a request, whichever
// comes first.
func (j *Job) await(ctx context.Context, at time.Time) *request {
	for {
		left := time.Until(at.Round(0)) // by the wall clock
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, time.Minute))
		select {
		case <-timer.C:
		case req := <-j.requests:
			timer.Stop()
			return req
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// plan announces the next run and returns when it is to begin.
func (j *Job) plan(tick time.Time) time.Time {
	j.tick = tick
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
		j.skipped(missed)
		j.rep.Logger().Warn("runs were skipped: what was done before them took too long", "runs", missed, "took", now.Sub(began).Round(time.Second))
	}
	if tick.Before(now) {
		tick = j.opts.Schedule.Next(now)
	}
	return j.plan(tick)
}

// replan lets an @every schedule go on from the last snapshot, whoever took it:
// all pods then have the same times.
func (j *Job) replan(next, now time.Time) time.Time {
	every := j.opts.Schedule.Interval()
	if every == 0 || j.present.ID == j.counted {
		return next
	}
	j.counted = j.present.ID
	if j.present.ID == "" {
		return next // it was deleted
	}
	due := j.present.CreatedAt.Add(every)
	if due.Before(now) {
		due = now
	}
	return j.plan(due.UTC())
}

// catchUp is asked once, when the catalogue was read for the first time. It lets
// an @every schedule go on from the last snapshot instead of from the start of the
// program: a pod that restarts more often than the interval would otherwise never
// take one. It makes up, once, for a time of any other schedule that passed while
// nothing ran, and does what Options.OnStart asks for.
func (j *Job) catchUp(next, now time.Time) (time.Time, *turn) {
	// Many pods start together after an outage, and their servers have better
	// things to do at first.
	soon := now.Add(startDelay + rand.N(startDelay))
	if j.opts.Jitter > startDelay {
		soon = now.Add(startDelay + rand.N(j.opts.Jitter))
	}
	if since := j.opts.OnStart; since > 0 && j.present.CreatedAt.Before(now.Add(-since)) {
		return next, &turn{trigger: TriggerStart, tick: now.Add(-since), at: soon, others: soon.Add(othersFirst)}
	}
	if j.opts.Schedule.Interval() > 0 {
		if j.present.ID == "" {
			return next, nil
		}
		if due := j.present.CreatedAt.Add(j.opts.Schedule.Interval()); due.Before(next) {
			next = j.replan(next, now)
		}
		return next, nil
	}
	if last := j.opts.Schedule.Last(now); j.present.ID != "" && j.present.CreatedAt.Before(last) {
		j.rep.Logger().Info("a run was missed: it is made up for", "due", last, "last_snapshot", j.present.ID)
		return next, &turn{trigger: TriggerMissed, tick: last, at: soon, others: soon.Add(othersFirst)}
	}
	return next, nil
}

// startDelay is the least delay of a run that the start brings, and its jitter.
const startDelay = 15 * time.Second

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
func (j *Job) look(ctx context.Context, t task) error {
	if err := j.refresh(ctx); err != nil || t == refreshing {
		return err
	}
	if j.lost > 0 {
		if j.lost > lostQuietly {
			j.succeed("the server has not said yet which shard of the cluster it is of")
		}
		return nil
	}
	j.mu.Lock()
	last, count := j.last, j.detail.Count
	j.mu.Unlock()
	if last.ID == "" {
		j.succeed("no snapshot yet")
	} else {
		j.succeed(fmt.Sprintf("%d snapshots, the last is %s", count, last.ID))
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
// has not seen yet, which never change. Nothing, if j.lost.
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
	folders, _, err := catalogue.scan(ctx)
	if err != nil {
		return err
	}
	switch lost, err := j.snapshotter.lost(ctx); {
	case err != nil:
		return err
	case lost:
		j.lost++
		return nil
	}
	j.lost = 0
	if err := j.judge(ctx, catalogue, folders); err != nil {
		return err
	}
	// Those of the future are shown, but say nothing about when the next is due.
	show, future := folders[:min(len(folders), detailSnapshots)], ofTheFuture(idsOf(folders), time.Now())
	read := show
	if future > 0 {
		read = slices.Concat(show, folders[max(future, len(show)):max(len(show), min(len(folders), future+detailSnapshots))])
	}
	entries := map[string]Entry{}
	var newest, present Manifest
	lines := []SnapshotLine{}
	for i, f := range read {
		e, ok := j.entries[f.id]
		if !ok || e.Err != nil || e.record != f.record {
			if e, err = catalogue.entryOf(ctx, f); err != nil {
				return err
			}
			if errors.Is(e.Err, ErrNotFound) {
				continue // deleted a moment ago
			}
		}
		entries[f.id] = e
		if e.Err == nil && present.ID == "" && ofTheFuture([]string{f.id}, time.Now()) == 0 {
			present = e.Manifest
		}
		if i >= len(show) {
			continue
		}
		if e.Err == nil && newest.ID == "" {
			newest = e.Manifest
		}
		lines = append(lines, j.line(e))
	}
	j.entries, j.present = entries, present
	j.snapshotter.learnFrom(present)
	if present.ID != "" {
		newest = present // one of the future would look new for as long as the clock was wrong
	}
	j.remember(newest)
	j.setDetail(func(d *Detail) { d.Instance, d.Count, d.Snapshots = catalogue.Instance(), len(folders), lines })
	return nil
}

// ofTheFuture returns how many of ids, newest first, are: a clock was wrong.
func ofTheFuture(ids []string, now time.Time) int {
	n := slices.IndexFunc(ids, func(id string) bool {
		at, _ := IDTime(id) // only valid ones are listed
		return !Ahead(at, now)
	})
	if n < 0 {
		return len(ids)
	}
	return n
}

// remember sets the newest snapshot known; its ID may be empty.
func (j *Job) remember(m Manifest) {
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
