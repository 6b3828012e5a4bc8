package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// VerifyPlan says when and how the job verifies what is in the store.
type VerifyPlan struct {
	// Schedule is when; the zero value is never. What counts is when the instance
	// was last verified by schedule, whichever pod did it: so @every goes on from
	// there, and a time that was missed is made up for once.
	Schedule Schedule
	// Sample is how many snapshots are verified besides the newest, see
	// Catalogue.Sample.
	Sample int
	// Load also loads the newest; nil does not.
	Load LoadServer
	// IdentityFile decrypts; "" verifies encrypted snapshots as they are stored.
	IdentityFile string
}

const (
	// verifyTimeout bounds one run, of all its snapshots.
	verifyTimeout = 6 * time.Hour
	// moreAfterDamage is how many older snapshots are verified beyond the plan when
	// one is damaged, until a good one is found: that is what there is left to
	// restore.
	moreAfterDamage = 3
	// A run that fails, but not for damage, is repeated after this, then after
	// twice as long and so on.
	verifyRetryLeast = 10 * time.Minute
	verifyRetryMost  = 6 * time.Hour
	// verifySoon is how long after a snapshot a verification begins that is due: one
	// that was interrupted by it, for one.
	verifySoon = 30 * time.Second
	// verifyInterruptions of the same snapshot in a row are a failure: to read it
	// again and again is not free either.
	verifyInterruptions = 3
)

// verifying is what a Job knows of its verifications.
type verifying struct {
	// Owned by the goroutine of Run.
	facts     []snapshotFacts     // of the newest snapshots, as of the last look
	kept      map[string][]string // why the retention keeps what it keeps, by id
	lastRun   time.Time           // that did all it should
	notBefore time.Time           // after a failure
	failures  int
	lease     *Lease      // nil until it was asked for
	pending   *pendingRun // what was interrupted; nil: nothing
	// Damage of which the store would take no record, by id. Not nil.
	unrecorded map[string]unrecorded
	failure    error  // of the last run; nil when it did all it should
	shown      string // what Job.trouble said when it was last reported

	counts verifyCounts // guarded by Job.mu
}

// unrecorded is damage that a verification has found and could not record.
type unrecorded struct {
	at    time.Time
	level Level
	err   error
}

// refutedBy tells that a verification at that time, of that level, says otherwise.
func (u unrecorded) refutedBy(at time.Time, level Level) bool {
	return !at.Before(u.at) && level.depth() >= u.level.depth()
}

// verifyCounts are the numbers for metrics.
type verifyCounts struct {
	passed, damaged, failed uint64
	lastDuration            time.Duration
	newest                  time.Time // creation of the newest snapshot that passed; zero: none known
	broken                  int       // snapshots that are damaged
}

// factsLimit bounds the snapshots that a look judges. Older ones are left to the
// retention.
const factsLimit = 1000

// judge reads what is known of the snapshots that a listing has shown.
func (j *Job) judge(ctx context.Context, c *Catalogue, folders []folder) error {
	all, err := c.factsOf(ctx, folders[:min(len(folders), factsLimit)], false)
	if err != nil {
		return err
	}
	// What the retention of another pod has deleted since the listing is no damage.
	all = slices.DeleteFunc(all, func(f snapshotFacts) bool { return f.gone })
	j.recallDamage(all)
	j.verify.facts = all
	var newest time.Time
	broken := 0
	now := time.Now()
	for _, f := range all {
		if f.verified && newest.IsZero() && !Ahead(f.at, now) {
			newest = f.at
		}
		if f.damaged {
			broken++
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.verify.counts.newest, j.verify.counts.broken = newest, broken
	return nil
}

// recallDamage adds to the facts the damage that could not be recorded. A record of
// a later verification, as deep, counts instead.
func (j *Job) recallDamage(all []snapshotFacts) {
	still := map[string]unrecorded{}
	for i := range all {
		f := &all[i]
		if u, ok := j.verify.unrecorded[f.id]; ok && !u.refutedBy(f.verifiedAt, f.level) {
			still[f.id] = u
			f.damaged, f.verified = true, false
		}
	}
	j.verify.unrecorded = still
}

// trouble says what is wrong with the snapshots in the store, until it is no
// longer so.
func (j *Job) trouble() (status.Reason, string) {
	if i := slices.IndexFunc(j.verify.facts, func(f snapshotFacts) bool { return f.damaged }); i >= 0 {
		good := slices.IndexFunc(j.verify.facts, func(f snapshotFacts) bool { return f.verified })
		text := fmt.Sprintf("snapshot %s is damaged", j.verify.facts[i].id)
		if n := j.brokenCount(); n > 1 {
			text = fmt.Sprintf("%d snapshots are damaged, the newest is %s", n, j.verify.facts[i].id)
		}
		if good >= 0 {
			text += ", the last verified one is " + j.verify.facts[good].id
		} else {
			text += ", and none has passed a verification"
		}
		if u, ok := j.verify.unrecorded[j.verify.facts[i].id]; ok {
			text += "; " + u.err.Error()
		}
		return status.ReasonCorrupt, text
	}
	if err := j.verify.failure; err != nil {
		return status.ReasonOf(err), "the last verification failed: " + err.Error()
	}
	return "", ""
}

func (j *Job) brokenCount() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.verify.counts.broken
}

// succeed reports a good run, with the trouble there is with the snapshots in the
// store.
func (j *Job) succeed(message string) { j.succeedBut(message, "", "") }

// succeedBut is succeed with what is wrong all the same in that run, "" for nothing.
func (j *Job) succeedBut(message string, reason status.Reason, but string) {
	why, text := j.trouble()
	j.verify.shown = text
	switch {
	case but == "" && text == "":
		j.rep.Success(message)
		return
	case but == "":
		reason, but = why, text
	case why == status.ReasonCorrupt:
		reason, but = why, text+"; and "+but
	case text != "":
		but += "; and " + text
	}
	j.rep.Warn(reason, message+"; but "+but)
}

// tell reports what a look found that was not so before.
func (j *Job) tell() {
	reason, text := j.trouble()
	if text == j.verify.shown {
		return
	}
	j.verify.shown = text
	if text == "" {
		j.rep.Success("no snapshot in the store is known to be damaged")
		return
	}
	j.rep.Warn(reason, text)
}

// errSnapshotFirst is why a verification is interrupted.
var errSnapshotFirst = errors.New("a snapshot comes first")

// verifyDue verifies what is due, if anything is. A snapshot never waits for it: it
// is interrupted at once at the time next, when failing is to be tried again (nil:
// snapshots do not fail), by a request and by the end of ctx, and what it was at is
// verified later, from its start. Other pods' snapshots do not mind it, as it has a
// lease of its own.
func (j *Job) verifyDue(ctx context.Context, next time.Time, failing *turn) {
	if !j.due(time.Now()) {
		return
	}
	until, brief := next, false
	if failing != nil && failing.at.Before(next) {
		// The pauses between the tries grow: there will be more time.
		until, brief = failing.at, failing.pause < j.opts.RetryMax/2
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	work, release := j.untilSnapshot(ctx, until)
	ran, err := j.verifyUnderLease(work, failing != nil)
	stopped := work.Err() != nil
	if stopped && ctx.Err() == nil {
		err = j.interrupted(ran, brief, err)
	}
	release()
	if errors.Is(err, context.Canceled) || err == nil && !ran {
		return // stopped, or for another pod to do
	}
	j.verify.failure = err
	if err != nil && !errors.Is(err, ErrNotRecorded) {
		j.verify.notBefore = time.Now().Add(min(verifyRetryMost, verifyRetryLeast<<min(j.verify.failures, 10)))
		j.verify.failures++
		j.rep.Logger().Warn("the verification of the snapshots failed", "reason", string(status.ReasonOf(err)), "error", err, "hint", status.HintOf(err))
	} else {
		j.verify.lastRun, j.verify.failures = time.Now(), 0
	}
	if stopped || j.early != nil {
		return // a snapshot waits
	}
	// Its records are news. That snapshots fail is worse news, which stay.
	if err := j.refresh(ctx); err == nil && failing == nil {
		j.tell()
	}
}

// untilSnapshot returns a context that ends when a snapshot is to be taken: at a
// time, or when one is asked for; then it is left to wait, which see, as j.early.
func (j *Job) untilSnapshot(ctx context.Context, at time.Time) (work context.Context, release func()) {
	work, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		j.early = j.await(work, at)
		cancel(errSnapshotFirst)
	}()
	return work, func() {
		cancel(nil)
		<-ended
	}
}

// interrupted returns what came of a verification that has ended with err after it
// was to end: context.Canceled if it is to go on soon. That there was no time does
// not count when it was brief.
func (j *Job) interrupted(ran, brief bool, err error) error {
	p := j.verify.pending
	switch {
	case !ran:
		return context.Canceled
	case err == nil, p == nil:
		return err // it was done by then
	}
	if !brief {
		p.interrupted++
	}
	id := p.ids[0]
	if p.interrupted < verifyInterruptions {
		j.rep.Logger().Info("the verification was interrupted: a snapshot comes first; it begins anew after that", "snapshot", id)
		return context.Canceled
	}
	j.verify.pending = nil
	j.tally(func(c *verifyCounts) { c.failed++ })
	return status.WithHint(status.ReasonTimeout, "let backup verify do it where there is time, or take snapshots less often",
		fmt.Errorf("verify: snapshot %s: interrupted %d times in a row by snapshots: between two of them there is less time than it takes", id, p.interrupted))
}

// verifyUnderLease verifies, if no other pod does. failing tells that snapshots are.
// ran tells that it has begun.
func (j *Job) verifyUnderLease(ctx context.Context, failing bool) (ran bool, err error) {
	c, err := j.snapshotter.Locate(ctx)
	if err != nil {
		return false, err
	}
	if v := &j.verify; v.lease == nil || v.lease.key != c.verifyLeaseKey() {
		v.lease = newLease(c.store, c.verifyLeaseKey(), LeaseOptions{Pod: j.opts.Snapshot.Pod, TTL: j.opts.LeaseTTL, Log: j.rep.Logger()})
	}
	err = j.verify.lease.Do(ctx, "verification", func(ctx context.Context) error {
		// What was due may have been done while this pod waited for its turn.
		if err := j.refresh(ctx); err != nil {
			return err
		}
		if ran = j.due(time.Now()); !ran {
			return nil
		}
		began := time.Now()
		defer func() {
			if ctx.Err() == nil {
				j.tally(func(c *verifyCounts) { c.lastDuration = time.Since(began) })
			}
		}()
		return j.verifyRun(ctx, failing)
	})
	if errors.Is(err, ErrHeld) {
		return false, nil
	}
	return ran, err
}

// due tells whether a verification is due, or one that was interrupted is to go on.
func (j *Job) due(now time.Time) bool {
	if j.opts.Verify.Schedule.IsZero() || len(j.verify.facts) == 0 || now.Before(j.verify.notBefore) {
		return false
	}
	if j.goOn(); j.verify.pending != nil {
		return true
	}
	last := j.verify.lastRun
	for _, f := range j.verify.facts {
		if f.scheduled && f.checkedAt.After(last) {
			last = f.checkedAt
		}
	}
	if last.IsZero() {
		return true
	}
	next := j.opts.Verify.Schedule.Next(last)
	return !next.IsZero() && !next.After(now)
}

// goOn leaves of a run that was interrupted what is still to be done: not what was
// deleted since, nor what another pod has verified.
func (j *Job) goOn() {
	p := j.verify.pending
	if p == nil {
		return
	}
	first := p.ids[0]
	p.ids = slices.DeleteFunc(p.ids, func(id string) bool {
		i := slices.IndexFunc(j.verify.facts, func(f snapshotFacts) bool { return f.id == id })
		return i < 0 || !j.verify.facts[i].checkedAt.Before(p.began)
	})
	switch {
	case len(p.ids) == 0:
		j.verify.pending = nil
	case p.ids[0] != first:
		p.interrupted = 0
	}
}

// pendingRun is a run of verifications that is not done.
type pendingRun struct {
	began       time.Time
	newest      string   // the id that is also loaded, if any is
	ids         []string // what is left, at least one; the first was being verified
	interrupted int      // so many times in a row while it was
	passed      bool     // one has
	more        int      // were added after damage
}

// verifyRun verifies the plan, or what an interruption has left of it. The error
// says why it was not done; damage that was found is none. failing tells that
// snapshots are, which stays what is said of the job.
func (j *Job) verifyRun(ctx context.Context, failing bool) error {
	plan := j.opts.Verify
	catalogue := j.snapshotter.catalogue.WithIdentityFile(plan.IdentityFile)
	run := j.verify.pending
	if run == nil {
		ids := sample(j.verify.facts, plan.Sample, time.Now())
		if len(ids) == 0 {
			return nil // all are of a newer program
		}
		run = &pendingRun{began: time.Now(), newest: ids[0], ids: ids}
	}
	j.verify.pending = nil
	// It is seen from the start, not from the first byte.
	j.verifyProgress(Progress{Phase: PhaseVerify})
	defer j.setDetail(func(d *Detail) { d.Verifying = nil })
	j.rep.Logger().Info("verifying snapshots", "snapshots", run.ids)
	var trouble error
	ids := run.ids
	for n := 0; n < len(ids); n++ {
		o := VerifyOptions{Tool: j.opts.Snapshot.Tool, Pod: j.opts.Snapshot.Pod, Scheduled: true, Progress: j.verifyProgress, Log: j.rep.Logger()}
		if ids[n] == run.newest {
			o.Load = j.loadOf(ctx, catalogue, ids[n])
		}
		m, v, err := catalogue.VerifyAndRecord(ctx, ids[n], o)
		switch {
		case err != nil && ctx.Err() != nil:
			if n > 0 {
				run.interrupted = 0
			}
			if run.ids = ids[n:]; errors.Is(context.Cause(ctx), errSnapshotFirst) {
				j.verify.pending = run
			}
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		case errors.Is(err, ErrNotFound):
			continue // deleted meanwhile
		case status.ReasonOf(err) == status.ReasonCorrupt:
			j.tally(func(c *verifyCounts) { c.damaged++ })
			if failing {
				j.rep.Count(err)
			} else {
				j.rep.Failure(err)
			}
			j.rep.Logger().LogAttrs(ctx, slog.LevelError, "a snapshot in the store is damaged", slog.String("snapshot", ids[n]), slog.Any("error", err), slog.String("hint", status.HintOf(err)))
			if errors.Is(err, ErrNotRecorded) {
				j.verify.unrecorded[ids[n]] = unrecorded{v.VerifiedAt, v.Level, err}
			}
			if next := j.olderThan(ids[n], ids); !run.passed && run.more < moreAfterDamage && next != "" {
				ids = slices.Insert(ids, n+1, next)
				run.more++
			}
			continue
		case err == nil, errors.Is(err, ErrNotRecorded):
			run.passed = true
			if j.verify.unrecorded[ids[n]].refutedBy(v.VerifiedAt, v.Level) {
				delete(j.verify.unrecorded, ids[n])
			}
			j.tally(func(c *verifyCounts) { c.passed++ })
			attrs := []any{"snapshot", m.ID, "level", string(v.Level), "seconds", v.Duration}
			if v.Server != "" {
				attrs = append(attrs, "server", v.Server)
			}
			j.rep.Logger().Info("a snapshot was verified", attrs...)
		default:
			j.tally(func(c *verifyCounts) { c.failed++ })
			if v.Level == "" {
				return err // the store, most likely: not now
			}
		}
		if err != nil && trouble == nil {
			trouble = err
		}
	}
	return trouble
}

// loadOf returns the server to load a snapshot into; nil when there is none, or
// no key.
func (j *Job) loadOf(ctx context.Context, c *Catalogue, id string) LoadServer {
	if j.opts.Verify.Load == nil {
		return nil
	}
	if m, err := c.Get(ctx, id); err != nil || c.Level(m) != LevelFull {
		return nil
	}
	return j.opts.Verify.Load
}

// olderThan returns the next older snapshot that is not among those chosen.
func (j *Job) olderThan(id string, chosen []string) string {
	for _, f := range j.verify.facts {
		if f.id < id && !f.damaged && !f.newer && !slices.Contains(chosen, f.id) {
			return f.id
		}
	}
	return ""
}

func (j *Job) verifyProgress(p Progress) { j.setDetail(func(d *Detail) { d.Verifying = &p }) }

func (j *Job) tally(change func(*verifyCounts)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.verify.counts)
}

// remembersWhy keeps for the status page why the retention keeps a snapshot.
func (j *Job) remembersWhy(p Pruned) {
	j.verify.kept = make(map[string][]string, detailSnapshots)
	for _, k := range p.Keeps[:min(len(p.Keeps), detailSnapshots)] {
		j.verify.kept[k.ID] = k.Why
	}
}

// line is a snapshot for the status page.
func (j *Job) line(e Entry) SnapshotLine {
	m := e.Manifest
	l := SnapshotLine{ID: e.ID, Time: e.Time, Plain: m.RDB.Size, Stored: m.Object.Size, Keys: m.RDB.Keys, Kept: j.verify.kept[e.ID]}
	if e.Err != nil {
		l.Error = e.Err.Error()
		return l
	}
	l.Source, l.Pod, l.Encrypted = m.Source, m.Server.Pod, m.Object.Encryption != EncryptionNone
	if v := e.Verified; v != nil {
		l.VerifiedAt, l.Verified = v.VerifiedAt, string(v.Level)
		if !v.OK() {
			l.Verified, l.Error = "", v.Damage
		} else if v.Later != nil {
			l.Later, l.LaterAt = string(v.Later.Level), v.Later.VerifiedAt
		}
	}
	if u, ok := j.verify.unrecorded[e.ID]; ok {
		l.VerifiedAt, l.Verified, l.Error = u.at, "", u.err.Error()
	}
	return l
}
