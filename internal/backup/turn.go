package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Trigger is why a snapshot is taken.
type Trigger string

// The triggers. The set is closed: it is a metric label.
const (
	TriggerSchedule Trigger = "schedule"
	TriggerMissed   Trigger = "missed"   // a scheduled time at which nothing ran
	TriggerStart    Trigger = "start"    // Options.OnStart
	TriggerRequest  Trigger = "request"  // Job.Request
	TriggerShutdown Trigger = "shutdown" // Options.OnShutdown
)

func triggers() []Trigger {
	return []Trigger{TriggerSchedule, TriggerMissed, TriggerStart, TriggerRequest, TriggerShutdown}
}

// othersFirst is how long, beyond the jitter, a master waits for its replicas to
// begin, or a replica that may not for the others: their clocks are not the same.
const othersFirst = 30 * time.Second

// turn is a run that is due, until there is a snapshot, taken here or elsewhere.
type turn struct {
	trigger  Trigger
	tick     time.Time // a snapshot of then or later will do, whoever took it
	at       time.Time // when it is tried, or tried again
	others   time.Time // until then others go first; see Job.yield
	failures int
	pause    time.Duration // after the last of them
	away     bool          // the last of them was one of the store
	request  *request      // nil but for the first try of a request

	over    bool // it was tried to the end; otherwise it waits
	waiting bool // for others
}

// failing tells whether a turn that has failed is to be tried again.
func (t *turn) failing() bool { return t.failures > 0 && !t.waiting }

// scheduled returns the turn of a scheduled time that has come. due is the one
// before, if it is not over.
func (j *Job) scheduled(due *turn, now time.Time) *turn {
	t := &turn{trigger: TriggerSchedule, tick: j.tick, at: now, others: j.tick.Add(j.opts.Jitter + othersFirst)}
	if every := j.opts.Schedule.Interval(); every > 0 {
		t.tick = now.Add(-every + 1) // a snapshot that is younger than the interval
	}
	if due == nil {
		return t
	}
	if due.waiting {
		// Somebody else has been at it since: this time is left out there, too.
		j.skipped(1)
		return due
	}
	t.failures, t.away = due.failures, due.away
	return t
}

// satisfied tells whether the catalogue, as last read, has what a turn is for.
func (j *Job) satisfied(t *turn) bool {
	return j.present.ID != "" && !j.present.CreatedAt.Before(t.tick)
}

// run tries a turn. After an error, and when t.over is set, the try is over;
// otherwise it is to be tried again at t.at.
func (j *Job) run(ctx context.Context, t *turn) error {
	t.over, t.waiting = true, false
	m, err := j.try(ctx, t)
	if t.request != nil {
		t.request.done <- Outcome{Manifest: m, Err: err}
		t.request = nil
		if errors.Is(err, ErrHeld) || errors.Is(err, ErrStandby) {
			err = nil // no failure of backups: another one takes them
		}
	}
	if t.over {
		j.setDetail(func(d *Detail) { d.Waiting = "" })
	}
	return err
}

// try does what the turn is for, if it is for this pod to do. The manifest is that
// of a snapshot taken here.
func (j *Job) try(ctx context.Context, t *turn) (Manifest, error) {
	if err := j.openStore(ctx); err != nil {
		return Manifest{}, err
	}
	st, err := j.stand(ctx)
	if err != nil {
		return Manifest{}, err
	}
	j.setDetail(func(d *Detail) { d.Server = st.role })
	if errors.Is(st.err, ErrStandby) {
		return Manifest{}, j.standBy(ctx, t, st.err)
	}
	if j.opts.Snapshot.Role == RolePreferReplica {
		if mine, err := j.yield(ctx, t, st); !mine || err != nil {
			return Manifest{}, err
		}
	}
	if st.err != nil {
		return Manifest{}, st.err
	}

	c, err := j.snapshotter.Locate(ctx)
	if err != nil {
		return Manifest{}, err
	}
	var m Manifest
	err = j.leaseOf(c).Do(ctx, "snapshot", func(ctx context.Context) (err error) {
		j.showLease()
		m, err = j.snapshot(ctx, t)
		return err
	})
	j.showLease()
	if held, ok := errors.AsType[*HeldError](err); ok {
		if t.request != nil {
			return Manifest{}, status.WithHint(status.ReasonLease, "when that is done, try again", err)
		}
		j.putOff(t, min(max(j.opts.LeaseTTL/4, time.Second), 15*time.Second), held.Error())
		return Manifest{}, nil
	}
	return m, err
}

// yield lets the others go first where replicas are preferred: a master those of
// its replicas that are in step, a replica that is not fit all others. It tells
// whether it is this pod's turn now; if not, the turn is over or put off.
func (j *Job) yield(ctx context.Context, t *turn, st standing) (mine bool, err error) {
	first := time.Now().Before(t.others)
	switch {
	case t.request != nil: // whoever asks has chosen this pod
		return true, nil
	case t.trigger == TriggerShutdown:
		if st.role != "master" {
			return false, fmt.Errorf("%w: it is a replica, its master goes on with the data", ErrStandby)
		}
		return true, nil
	case st.err == nil && (!first || st.role != "master" || st.replicas == 0):
		return true, nil
	}
	if err := j.refresh(ctx); err != nil {
		return false, err
	}
	if j.satisfied(t) {
		j.elsewhere()
		return false, nil
	}
	why := "for a replica to take it"
	if st.err != nil {
		why = "for others to take it: " + st.err.Error()
	}
	if first {
		j.putOff(t, min(othersFirst/3, time.Until(t.others)), why)
		return false, nil
	}
	held, err := j.heldByOthers(ctx)
	if held {
		j.putOff(t, othersFirst/3, why)
	}
	return !held, err
}

// heldByOthers tells whether somebody else seems to have the lease.
func (j *Job) heldByOthers(ctx context.Context) (bool, error) {
	c, err := j.snapshotter.Locate(ctx)
	if err != nil {
		return false, err
	}
	lease := j.leaseOf(c)
	if err := lease.Look(ctx); err != nil {
		return false, err
	}
	j.showLease()
	rec := lease.State().Record
	return rec.Holder != "" && rec.Expires.After(time.Now().Add(-j.opts.LeaseTTL)), nil
}

// putOff puts a turn off.
func (j *Job) putOff(t *turn, d time.Duration, why string) {
	t.over, t.waiting, t.at = false, true, time.Now().Add(d)
	j.setDetail(func(d *Detail) { d.Waiting = why })
}

// standBy ends a turn that is for another pod. How is it doing?
func (j *Job) standBy(ctx context.Context, t *turn, why error) error {
	if t.request != nil || t.trigger == TriggerShutdown {
		return why
	}
	if err := j.refresh(ctx); err != nil {
		return err
	}
	j.setDetail(func(d *Detail) { d.LastFailure = "" })
	j.succeed("standing by: " + why.Error())
	return nil
}

// elsewhere ends a turn for which the snapshot is there.
func (j *Job) elsewhere() {
	j.setDetail(func(d *Detail) { d.LastFailure = "" })
	j.succeed(fmt.Sprintf("standing by: %s has taken %s", j.present.Server.Pod, j.present.ID))
}

// snapshot takes one and prunes, under the lease.
func (j *Job) snapshot(ctx context.Context, t *turn) (Manifest, error) {
	// Between the time of the turn and the lease somebody else may have had both.
	if err := j.refresh(ctx); err != nil {
		return Manifest{}, err
	}
	if j.satisfied(t) {
		j.elsewhere()
		return j.present, nil
	}
	began := time.Now()
	phases := newPhaseClock(began)
	defer func() {
		j.rep.Ran(time.Since(began))
		j.setDetail(func(d *Detail) { d.Running = nil })
	}()
	j.began(t)
	m, err := j.take(ctx, func(p Progress) {
		phases.enter(p.Phase, time.Now())
		j.setDetail(func(d *Detail) { d.Running = &p })
	})
	j.finished(t, began, phases.end(time.Now()), m, err)
	if err := j.mend.look(ctx, false); err != nil {
		j.rep.Logger().Debug("whether the server refuses writes is not known", "error", err)
	}
	left, leftBytes := j.snapshotter.Leftovers()
	j.setDetail(func(d *Detail) {
		d.LeftoverFiles, d.LeftoverBytes, d.WritesRefused = left, leftBytes, j.mend.state()
	})
	if errors.Is(err, ErrStandby) {
		return Manifest{}, j.standBy(ctx, t, err)
	}
	if err != nil {
		return Manifest{}, err
	}
	took := time.Since(began)
	j.setDetail(func(d *Detail) { d.LastFailure, d.LastDuration, d.Running = "", seconds(took), nil })
	j.rep.Logger().Info("a snapshot was stored", "snapshot", m.ID, "keys", m.RDB.Keys, "bytes", m.RDB.Size, "stored_bytes", m.Object.Size, "seconds", roundSeconds(took))
	message := fmt.Sprintf("snapshot %s: %d keys, %s, %s stored, in %s", m.ID, m.RDB.Keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size), took.Round(time.Millisecond))

	j.remember(m)
	pruned, err := j.snapshotter.catalogue.pruneKnowing(ctx, j.opts.Retention, false, j.recallDamage)
	j.remembersWhy(pruned)
	if len(pruned.Deleted)+len(pruned.Orphans) > 0 {
		j.rep.Logger().Info("deleted by retention", "snapshots", pruned.Deleted, "abandoned_uploads", len(pruned.Orphans))
	}
	if err == nil {
		err = j.refresh(ctx)
	}
	var reason status.Reason
	but := ""
	switch {
	case err != nil:
		reason, but = status.ReasonOf(err), err.Error()
	case j.mend.state() != "":
		reason, but = status.ReasonMisconf, "the server refuses writes (MISCONF) until a save succeeds: "+j.mend.state()
	case j.encryptedBefore(m) != "":
		reason, but = status.ReasonKey, "it is not encrypted, and "+j.encryptedBefore(m)+" is: backup.encryption.recipients is not set here"
	case len(pruned.Ahead) > 0:
		reason, but = status.ReasonRetention, fmt.Sprintf("%d snapshots are dated in the future and hide it from a restore of the latest: check the clocks, then delete them by hand; the first is %s", len(pruned.Ahead), pruned.Ahead[0])
	case pruned.Spared != "":
		reason, but = status.ReasonRetention, "no newer snapshot holds keys, so the retention keeps "+pruned.Spared
	case pruned.Guarded != "":
		reason, but = status.ReasonRetention, "no newer snapshot holds a tenth of the keys of "+pruned.Guarded+", which the retention keeps: restore it, or delete it if that is right"
	case j.lease.State().Mode == LeaseBestEffort:
		reason, but = status.ReasonLease, "the store ignores conditional writes, so two pods may take a snapshot at the same time: both are whole, and count twice for the retention"
	}
	j.succeedBut(message, reason, but)
	return m, nil
}

// leaseOf returns the lease of a catalogue's instance.
func (j *Job) leaseOf(c *Catalogue) *Lease {
	if j.lease == nil || j.lease.key != c.leaseKey() {
		j.lease = c.Lease(LeaseOptions{Pod: j.opts.Snapshot.Pod, TTL: j.opts.LeaseTTL, Log: j.rep.Logger()})
	}
	return j.lease
}

// showLease brings the lease, as last seen, to the status page and the metrics.
func (j *Job) showLease() {
	st := j.lease.State()
	j.setDetail(func(d *Detail) {
		d.Lease = &LeaseLine{Holder: st.Record.Holder, Mine: st.Held, Since: st.Record.Acquired, Mode: st.Mode}
	})
}

// lastOne takes a last snapshot when the job was told to stop by the end of ctx, at
// stopped, if that is wanted and there is time.
func (j *Job) lastOne(ctx context.Context, hurry <-chan struct{}, stopped time.Time) error {
	if !j.opts.OnShutdown {
		return nil
	}
	left := j.opts.Drain - time.Since(stopped)
	if left <= 0 {
		j.rep.Logger().Error("there is no last snapshot: no time was left", "hint", hintDrain)
		return nil
	}
	ctx, release := drain(ctx, hurry, left)
	defer release()
	t := &turn{trigger: TriggerShutdown, tick: stopped, others: stopped}
	for {
		err := j.run(ctx, t)
		switch {
		case errors.Is(err, ErrStandby):
			j.rep.Logger().Info("no last snapshot", "why", err)
			return nil
		case err != nil:
			j.failed(err)
			j.rep.Logger().Error("there is no last snapshot", "error", err, "hint", hintShutdown(err))
			return nil
		case t.over:
			j.rep.Logger().Info("the last snapshot", "result", j.rep.Report().Message)
			return nil
		}
		if sleep(ctx, time.Until(t.at)) != nil {
			j.rep.Logger().Error("there is no last snapshot: no time was left", "why", j.waitingFor(), "hint", hintDrain)
			return nil
		}
	}
}

const hintDrain = "pod.drain-timeout, and with it terminationGracePeriodSeconds, bounds the last snapshot"

func hintShutdown(err error) string {
	switch status.ReasonOf(err) {
	case status.ReasonUnreachable, status.ReasonTimeout:
		return "redis-server ended before the sidecar was told to: docs/backup.md says what must come first"
	case status.ReasonCanceled:
		return hintDrain
	}
	return status.HintOf(err)
}

func (j *Job) waitingFor() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.detail.Waiting
}
