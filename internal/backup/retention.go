package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// orphanAge is how old an upload without a manifest must be before it counts as
// abandoned: longer than any upload takes.
const orphanAge = 24 * time.Hour

// Retention says which snapshots stay. One that any rule keeps stays.
type Retention struct {
	// Last is how many of the newest stay. The others are how many hours, days,
	// ISO weeks, months and years, counted back from the newest snapshot, leaving
	// out those without any, keep the newest good snapshot in them. When all six
	// are 0, every snapshot stays.
	Last, Hourly, Daily, Weekly, Monthly, Yearly int

	// Zone is where an hour, a day … begins; nil is UTC.
	Zone *time.Location

	// MinAge keeps what is younger. MinCount is how many good snapshots there are
	// at least, if there are that many.
	MinAge   time.Duration
	MinCount int

	// ShrinkGuard is how long a snapshot stays because no newer one holds half as
	// many keys, see guarded. 0 is not at all.
	ShrinkGuard time.Duration
}

// all tells that no rule ever lets a snapshot go.
func (r Retention) all() bool {
	return r.Last == 0 && r.Hourly == 0 && r.Daily == 0 && r.Weekly == 0 && r.Monthly == 0 && r.Yearly == 0
}

// String names the rules in the words of the settings.
func (r Retention) String() string {
	if r.all() {
		return "keep all"
	}
	var parts []string
	for _, p := range r.periods() {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.name, p.n))
		}
	}
	if r.Last > 0 {
		parts = slices.Insert(parts, 0, fmt.Sprintf("last %d", r.Last))
	}
	return "keep " + strings.Join(parts, ", ")
}

// period is one of the rules that keep one snapshot for each stretch of time.
type period struct {
	name string
	n    int
	of   func(time.Time) string // the stretch a time is in
}

func (r Retention) periods() []period {
	layout := func(l string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(l) }
	}
	return []period{
		// With the offset: the hour that a change of the clock repeats is two.
		{"hourly", r.Hourly, layout("2006-01-02T15 -0700")},
		{"daily", r.Daily, layout(time.DateOnly)},
		{"weekly", r.Weekly, func(t time.Time) string {
			year, week := t.ISOWeek()
			return fmt.Sprintf("%04d-W%02d", year, week)
		}},
		{"monthly", r.Monthly, layout("2006-01")},
		{"yearly", r.Yearly, layout("2006")},
	}
}

// Why a snapshot stays, as Keep.Why says it.
const (
	whyAll      = "all"
	whyNewest   = "newest"
	whyLast     = "last"
	whyAhead    = "dated in the future"
	whyMinAge   = "younger than min-age"
	whyMinCount = "min-count"
	whyVerified = "last verified"
	whyKeys     = "the newest with keys"
	whyGuarded  = "no newer one holds half of its keys"
	whyNone     = "none is known to be good"
	whyNewer    = "written by a newer redis-sidecar"
	whyLocked   = "locked"
	whyFailed   = "could not be deleted"
)

// Keep is a snapshot that stays, and why: the rules that keep it, such as "last",
// "daily" or "last verified".
type Keep struct {
	ID  string
	Why []string
	// Until is when the store lets it go, for one that only an object lock keeps.
	Until time.Time
}

// Pruned says what Prune deleted, or with dryRun would delete.
type Pruned struct {
	Deleted []string // ids, oldest first
	Keeps   []Keep   // the snapshots that stay, newest first
	Orphans []Orphan // uploads without a manifest, older than a day
	Parts   int      // remains of uploads that the store does not list; not known in a dry run

	// Spared is the newest snapshot that holds keys, when no rule but this keeps
	// it: every newer one is empty or damaged. "" when there was no need.
	Spared string

	// Guarded is a snapshot that stays only because those since hold less than a
	// tenth of its keys: either data was lost, or a person says that this is
	// right by deleting it. "" when there is none.
	Guarded string

	// Ahead are the snapshots of the future, newest first. They stay and do not
	// count: a clock was wrong, and what was taken since must not go in their
	// place.
	Ahead []string

	// Locked is how many snapshots and orphans would have been deleted if the
	// store had not locked them.
	Locked int
}

// Kept is the number of snapshots that stay.
func (p Pruned) Kept() int { return len(p.Keeps) }

// clockSlack is how far two clocks may be apart before a snapshot counts as one
// of the future.
const clockSlack = 5 * time.Minute

// Ahead tells whether a snapshot of that time is dated in the future: a clock is or
// was wrong. Up to five minutes are none.
func Ahead(at, now time.Time) bool { return at.After(now.Add(clockSlack)) }

// snapshotFacts is what the rules know of a snapshot.
type snapshotFacts struct {
	id       string
	at       time.Time
	newer    bool // of a format that this program does not know: nothing else is known
	gone     bool // deleted since the listing: nothing else is known
	damaged  bool // its manifest, or by its last verification its data
	verified bool // by its last verification
	counted  bool // its keys are known
	keys     uint64

	verifiedAt time.Time // when the verification was that counts; zero: never
	level      Level     // of that
	checkedAt  time.Time // when the last verification was, however deep
	scheduled  bool      // that last one
}

// sound tells that it may be worth something to this program: intact and not known
// to be empty.
func (f snapshotFacts) sound() bool { return !f.damaged && !f.newer && (!f.counted || f.keys > 0) }

// decide applies the rules to all snapshots, newest first, and returns for each
// why it stays: nothing for one that is to be deleted.
func (r Retention) decide(all []snapshotFacts, now time.Time) (why [][]string) {
	why = make([][]string, len(all))
	add := func(i int, reason string) { why[i] = append(why[i], reason) }
	first := 0
	for ; first < len(all) && Ahead(all[first].at, now); first++ {
		add(first, whyAhead)
	}
	present, why2 := all[first:], why[first:]
	if len(present) == 0 {
		return why
	}
	add = func(i int, reason string) { why2[i] = append(why2[i], reason) }

	if r.all() {
		for i := range present {
			add(i, whyAll)
		}
		return why
	}
	// Damaged ones stay for a while, for who looks into it, in nobody's place.
	good := 0
	for i, f := range present {
		if i < r.Last || good < r.Last && !f.damaged {
			add(i, whyLast)
		}
		if !f.damaged {
			good++
		}
	}
	if good == 0 { // or it is the store that cannot be read
		for i := range present {
			add(i, whyNone)
		}
	}
	zone := r.Zone
	if zone == nil {
		zone = time.UTC
	}
	for _, p := range r.periods() {
		for _, i := range newestOfEach(present, p, zone) {
			add(i, p.name)
		}
	}
	if len(why2[0]) == 0 {
		add(0, whyNewest)
	}
	for i, f := range present {
		if now.Sub(f.at) < r.MinAge {
			add(i, whyMinAge)
		}
	}
	if i := slices.IndexFunc(present, func(f snapshotFacts) bool { return f.verified && !f.damaged }); i >= 0 {
		add(i, whyVerified)
	}
	for i, f := range present {
		if f.newer {
			add(i, whyNewer)
		}
		if r.guarded(present, i, now) && f.keys > 0 {
			add(i, whyGuarded)
		}
	}
	if i := slices.IndexFunc(present, snapshotFacts.sound); i >= 0 && len(why2[i]) == 0 {
		add(i, whyKeys)
	}
	stay := 0
	for i, f := range present {
		if len(why2[i]) > 0 && !f.damaged {
			stay++
		}
	}
	for i, f := range present {
		if stay < r.MinCount && len(why2[i]) == 0 && !f.damaged {
			add(i, whyMinCount)
			stay++
		}
	}
	return why
}

// Protected returns the snapshots that no rule ever lets go, whatever their
// number: newest first, each with why.
func (c *Catalogue) Protected(ctx context.Context, r Retention) ([]Keep, error) {
	folders, _, err := c.scan(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.factsOf(ctx, folders, false)
	if err != nil {
		return nil, err
	}
	newest := slices.IndexFunc(all, snapshotFacts.sound)
	verified := slices.IndexFunc(all, func(f snapshotFacts) bool { return f.verified && !f.damaged })
	var out []Keep
	for i, f := range all {
		var why []string
		if i == newest {
			why = append(why, "it is "+whyKeys)
		}
		if i == verified {
			why = append(why, "it is the last that was verified")
		}
		if f.keys > 0 && r.guarded(all, i, time.Now()) {
			why = append(why, whyGuarded)
		}
		if why != nil {
			out = append(out, Keep{ID: f.id, Why: why})
		}
	}
	return out, nil
}

// newestOfEach returns the indexes of the snapshots that a period keeps. In a
// stretch that ends with damaged or empty snapshots, it is the last one before
// them.
func newestOfEach(present []snapshotFacts, p period, zone *time.Location) []int {
	var kept []int
	stretch := ""
	for i, f := range present {
		if p.n == 0 {
			break
		}
		s := p.of(f.at.In(zone))
		if s != stretch {
			if len(kept) == p.n {
				break
			}
			stretch = s
			kept = append(kept, i)
		} else if last := len(kept) - 1; !present[kept[last]].sound() && f.sound() {
			kept[last] = i
		}
	}
	return kept
}

// guardedNewer is how many newer snapshots there must be before ShrinkGuard can
// be over: it is for schedules rarer than that time.
const guardedNewer = 3

// guarded tells whether present[i] stays because no newer snapshot holds half as
// many keys. A server that was wiped and filled a little again goes on taking
// snapshots, which would push the last good one out. Until half of the keys are
// back, that one is protected; each older one that is protected, too, holds twice
// as many keys, so there are never many.
func (r Retention) guarded(present []snapshotFacts, i int, now time.Time) bool {
	f := present[i]
	if r.ShrinkGuard == 0 || i == 0 || f.damaged || !f.counted {
		return false
	}
	if now.Sub(f.at) > r.ShrinkGuard && i >= guardedNewer {
		return false
	}
	if slices.ContainsFunc(present[:i], func(f snapshotFacts) bool { return !f.damaged && !f.counted }) {
		return false // of a format that this program cannot count: they may hold everything
	}
	return mostKeys(present[:i]) < (f.keys+1)/2
}

// mostKeys is the largest number of keys that one of them is known to hold.
func mostKeys(of []snapshotFacts) uint64 {
	var most uint64
	for _, f := range of {
		if !f.damaged && f.counted {
			most = max(most, f.keys)
		}
	}
	return most
}

// collapsed tells that those newer than present[i] hold less than a tenth of its
// keys.
func collapsed(all []snapshotFacts, i int) bool {
	return mostKeys(all[:i]) < all[i].keys/10
}

// Prune deletes the snapshots that no rule keeps, oldest first, and what was left
// behind by uploads cut short. Whatever the rules say, these stay: the newest
// snapshot, the newest that holds keys, and the newest whose last verification it
// passed: a server that lost its data and goes on taking snapshots of nothing must
// not push the last good one out.
//
// A deletion that fails does not end the run; the error then carries
// status.ReasonRetention and Pruned says what was deleted all the same. What the
// store keeps locked is no failure.
func (c *Catalogue) Prune(ctx context.Context, r Retention, dryRun bool) (Pruned, error) {
	return c.pruneKnowing(ctx, r, dryRun, nil)
}

// pruneKnowing is Prune by one who knows more than the store has on record: know,
// if not nil, adds that to the facts.
func (c *Catalogue) pruneKnowing(ctx context.Context, r Retention, dryRun bool, know func([]snapshotFacts)) (Pruned, error) {
	p, err := c.prune(ctx, r, dryRun, know)
	if err != nil {
		err = status.WithHint(status.ReasonRetention, status.HintOf(err), fmt.Errorf("prune: %w", err))
	}
	return p, err
}

func (c *Catalogue) prune(ctx context.Context, r Retention, dryRun bool, know func([]snapshotFacts)) (Pruned, error) {
	folders, rest, err := c.scan(ctx)
	if err != nil {
		return Pruned{}, err
	}
	all, err := c.factsOf(ctx, folders, r.all())
	if err != nil {
		return Pruned{}, err
	}
	if know != nil {
		know(all)
	}
	now := time.Now()
	why := r.decide(all, now)
	var p Pruned
	var old []string
	for i, f := range all {
		switch reasons := why[i]; {
		case len(reasons) == 0:
			old = append(old, f.id)
			continue
		case reasons[0] == whyAhead:
			p.Ahead = append(p.Ahead, f.id)
		case slices.Equal(reasons, []string{whyKeys}), slices.Equal(reasons, []string{whyGuarded}) && mostKeys(all[:i]) == 0:
			p.Spared = cmp.Or(p.Spared, f.id)
		case slices.Equal(reasons, []string{whyGuarded}) && collapsed(all, i):
			p.Guarded = cmp.Or(p.Guarded, f.id)
		}
		p.Keeps = append(p.Keeps, Keep{ID: f.id, Why: why[i]})
	}
	slices.Reverse(old) // a run cut short has deleted the oldest
	orphans := olderThan(rest, now.Add(-orphanAge))
	if dryRun {
		p.Deleted, p.Orphans = old, orphans
		return p, nil
	}
	failures := c.deleteAll(ctx, &p, old, orphans)
	if err := leaseLost(ctx); err != nil {
		failures = append(failures, err)
	}
	if !giveUp(ctx, failures) {
		if p.Parts, err = c.store.Sweep(ctx, orphanAge, ofSnapshot); err != nil {
			failures = append(failures, err)
		}
	}
	return p, joined(failures...)
}

// deleteAll deletes snapshots and orphans, and says in p what became of each.
func (c *Catalogue) deleteAll(ctx context.Context, p *Pruned, old []string, orphans []Orphan) (failures []error) {
	for n, id := range old {
		if giveUp(ctx, failures) {
			for _, id := range old[n:] {
				p.stays(Keep{ID: id, Why: []string{whyFailed}})
			}
			return failures
		}
		err := c.Delete(ctx, id)
		until, locked := lockedUntil(err)
		switch {
		case err == nil:
			p.Deleted = append(p.Deleted, id)
		case locked:
			p.Locked++
			p.stays(Keep{ID: id, Why: []string{whyLocked}, Until: until})
		default:
			failures = append(failures, err)
			p.stays(Keep{ID: id, Why: []string{whyFailed}})
		}
	}
	for _, o := range orphans {
		if giveUp(ctx, failures) {
			return failures
		}
		err := c.deleteOrphan(ctx, o.ID)
		_, locked := lockedUntil(err)
		switch {
		case err == nil:
			p.Orphans = append(p.Orphans, o)
		case locked:
			p.Locked++
		default:
			failures = append(failures, err)
		}
	}
	return failures
}

// stays adds a snapshot that was to be deleted to those that stay.
func (p *Pruned) stays(k Keep) {
	at, _ := slices.BinarySearchFunc(p.Keeps, k.ID, func(have Keep, id string) int { return cmp.Compare(id, have.ID) })
	p.Keeps = slices.Insert(p.Keeps, at, k)
}

// lockedUntil tells whether err is that of a store in which an object is locked,
// and until when.
func lockedUntil(err error) (time.Time, bool) {
	locked, ok := errors.AsType[interface {
		error
		LockedUntil() time.Time
	}](err)
	if !ok {
		return time.Time{}, false
	}
	return locked.LockedUntil(), true
}

// giveUp ends a run that only produces errors, as a store that denies deletion
// denies all of them, and one that another pod may have begun, too.
func giveUp(ctx context.Context, failures []error) bool {
	return len(failures) >= 3 || ctx.Err() != nil || leaseLost(ctx) != nil
}

// Zone is where the schedule's fields are in: UTC unless it names another.
func (s Schedule) Zone() *time.Location {
	if s.zone == nil {
		return time.UTC
	}
	return s.zone
}
