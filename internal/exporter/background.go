package exporter

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// BackgroundOptions are the settings of the collectors that read keys or are
// dear in another way. They run outside the scrape, each at its interval, one
// at a time, on a connection of their own; a scrape shows what they found last.
// The zero value switches all of them off.
type BackgroundOptions struct {
	// Server is the connection they use. It must not be the one of the scrape,
	// which would wait for them. It may be nil when no collector is on.
	Server Server
	// Interval is the time from the start of one run of a collector to that of
	// its next. The default is 1 min.
	Interval time.Duration
	// Budget is how long one turn of a collector may take before the next one has
	// its own, and, from 1 s on, how long an answer may take. The default is 30 s.
	Budget time.Duration
	// ScanRate is how many keys per second SCAN may look at. 0 is no limit but the
	// one that always holds: every read is followed by a pause of nine times the
	// time the server worked on it, so that it spends at most a tenth of its time.
	ScanRate int
	// BatchSize is the COUNT of SCAN. The default is 1,000.
	BatchSize int
	// ReplicaOnly keeps all collectors that read keys, which are all but that of
	// clients, from reading a master: then they have no series.
	ReplicaOnly bool
	// SkipOnMaster does so for those of keys and streams only.
	SkipOnMaster bool
	// Gate is shared by exporters that read one at a time. Nil is one of its own.
	Gate *Gate

	Keys    KeyOptions
	Streams StreamOptions
	Groups  GroupOptions
	Scripts ScriptOptions
	Clients ClientOptions
	Search  SearchOptions
}

func (o BackgroundOptions) withDefaults() BackgroundOptions {
	o.Interval = positive(o.Interval, time.Minute)
	o.Budget = positive(o.Budget, 30*time.Second)
	o.BatchSize = positive(o.BatchSize, 1000)
	o.Groups.MaxDistinct = positive(o.Groups.MaxDistinct, 100)
	o.Clients.Max = positive(o.Clients.Max, 20_000)
	return o
}

// offMaster tells whether a collector must not read a master.
func (o BackgroundOptions) offMaster(name string) bool {
	switch name {
	case "clients":
		return false
	case "single_keys", "keys", "count_keys", "single_streams", "streams":
		return o.ReplicaOnly || o.SkipOnMaster
	}
	return o.ReplicaOnly
}

// positive returns v, or fallback when v is not above 0.
func positive[T int | time.Duration](v, fallback T) T {
	if v > 0 {
		return v
	}
	return fallback
}

// background is a collector that asks the server itself, outside the scrape.
type background interface {
	// name is the value of the label collector.
	name() string
	// needs returns the commands it may send, as Redis' ACL calls them, and
	// whether they read keys.
	needs() (commands []string, keys bool)
	// read does one pass: it asks the server and adds what it found to out. After an
	// error nothing of it is shown; what costs only a part of the series goes to
	// out.note. It waits for its turn wherever it asks.
	read(ctx context.Context, s *session, out *recorder) error
}

// ofSentinels is implemented by collectors that read a Sentinel, too; to the
// others it has nothing to say.
type ofSentinels interface{ ofSentinels() }

const (
	// staleAfter is after how many intervals without a good pass the series of
	// a collector are not shown any more, unless one is under way by then.
	staleAfter = 5
	// firstRetry is after how long a collector tries again for the first time
	// when the server cannot answer at the moment.
	firstRetry = 2 * time.Second
)

// backgrounds runs the background collectors of one Exporter and keeps what
// they found.
type backgrounds struct {
	report   *status.Reporter
	catalog  *catalog
	link     *link
	interval time.Duration
	budget   time.Duration
	tasks    []*task

	offMaster func(name string) bool

	age, duration, success, runs, overflow, progress, groupsTook *family
}

// task is one background collector with its latest result.
type task struct {
	background
	progress progress

	// Of the running goroutine, or the pass that it resumes.
	due      time.Time                // of the next turn
	resume   func() (time.Time, bool) // the pass under way, nil for none
	stop     func()                   // ends it
	failures int                      // in a row
	outcome  status.Reason            // of the last pass, "" for a good one

	mu      sync.Mutex
	found   *sink     // what is shown; nil before the first good run
	readAt  time.Time // of found; of the start when nothing was read yet
	began   time.Time // of the last pass
	took    time.Duration
	runs    uint64
	dropped uint64
	err     error // of the last run, nil before the first
	good    bool  // the last run had no error
}

// newBackgrounds describes the metrics of every background collector, whether
// it is on or not, and returns those that are.
func newBackgrounds(c *catalog, all Options, report *status.Reporter) *backgrounds {
	opts := all.Background.withDefaults()
	b := &backgrounds{
		report:   report,
		catalog:  c,
		link:     newLink(opts),
		interval: opts.Interval,
		budget:   opts.Budget,

		offMaster: opts.offMaster,

		age: c.addOwn(typeGauge, "exporter_background_age_seconds",
			"Seconds since a background collector read what is shown; since the start while it has read nothing.", "collector"),
		duration: c.addOwn(typeGauge, "exporter_background_duration_seconds",
			"Seconds the last run of a background collector took, its pauses and the turns of the others included.", "collector"),
		success: c.addOwn(typeGauge, "exporter_background_success",
			"1 when the last run of a background collector got all it wants, 0 when not and before the first one.", "collector"),
		runs: c.addOwn(typeCounter, "exporter_background_runs_total",
			"Finished runs of a background collector, good or not.", "collector"),
		overflow: c.addOwn(typeCounter, "exporter_background_dropped_series_total",
			"Series, or keys that would have some, that a background collector left out because there were too many.", "collector"),
		progress: c.addOwn(typeGauge, "exporter_background_progress_ratio",
			"Part of the keys that the pass of a background collector under way has looked at, from 0 to 1; 1 when none is under way.", "collector"),
		groupsTook: c.add(typeGauge, "last_key_groups_scrape_duration_milliseconds", "SCAN, MEMORY USAGE",
			"Milliseconds the last count of key groups took, its pauses included; 0 when there are no key groups."),
	}
	for _, bg := range newBackgroundCollectors(c, opts, all.ConfigCommand) {
		b.tasks = append(b.tasks, &task{background: bg, readAt: time.Now()})
	}
	if len(b.tasks) > 0 && opts.Server == nil {
		panic("exporter: background collectors without a Server")
	}
	return b
}

// newBackgroundCollectors returns those that opts switch on. Of two that give
// the same series the first one counts.
func newBackgroundCollectors(c *catalog, opts BackgroundOptions, configCommand string) []background {
	seen := len(c.families)
	own := func(name string) { // for the parameter collect[] of a scrape
		for _, f := range c.families[seen:] {
			f.owner = name
		}
		seen = len(c.families)
	}
	var out []background
	keys := newKeyFamilies(c)
	for _, l := range keyLists("keys", opts.Keys.Single, opts.Keys.Check, opts) {
		out = append(out, &keyValues{l, keys})
	}
	own("keys")
	if count := newKeyCounts(c, opts); len(opts.Keys.Count) > 0 {
		out = append(out, count)
	}
	own("count_keys")
	streams := newStreamFamilies(c)
	for _, l := range keyLists("streams", opts.Streams.Single, opts.Streams.Check, opts) {
		out = append(out, &streamStates{l, streams})
	}
	own("streams")
	if groups := newKeyGroups(c, opts, configCommand); len(opts.Groups.Patterns) > 0 {
		out = append(out, groups)
	}
	own("key_groups")
	if scripts := newScripts(c, opts); len(opts.Scripts.Files) > 0 {
		out = append(out, scripts)
	}
	own("scripts")
	if clients := newClients(c, opts); opts.Clients.Enabled {
		out = append(out, clients)
	}
	own("clients")
	if search := newSearchIndexes(c, opts); opts.Search.Enabled {
		out = append(out, search)
	}
	own("search_indexes")
	return out
}

// BackgroundCommands returns the commands that the background collectors which
// are on may send, as Redis' ACL calls them, in order, and whether they read
// keys, so that a user needs key patterns too.
func BackgroundCommands(opts Options) (commands []string, keys bool) {
	opts = opts.withDefaults()
	for _, b := range newBackgroundCollectors(newCatalog(opts), opts.Background.withDefaults(), opts.ConfigCommand) {
		names, reads := b.needs()
		commands = append(commands, names...)
		keys = keys || reads
	}
	if len(commands) > 0 {
		commands = append(commands, "info")
	}
	slices.Sort(commands)
	return slices.Compact(commands), keys
}

// run runs the collectors until ctx ends; without any it just waits.
func (b *backgrounds) run(ctx context.Context) {
	if len(b.tasks) == 0 {
		<-ctx.Done()
		return
	}
	now := time.Now()
	for _, t := range b.tasks {
		t.due = now
	}
	defer b.abandon()
	for {
		next := slices.MinFunc(b.tasks, func(a, b *task) int { return a.due.Compare(b.due) })
		if wait(ctx, time.Until(next.due)) != nil {
			return
		}
		next.due = b.turn(ctx, next)
		if ctx.Err() != nil {
			return
		}
	}
}

// abandon ends what is under way.
func (b *backgrounds) abandon() {
	for _, t := range b.tasks {
		if t.stop != nil {
			t.stop()
		}
	}
}

// next returns when the pass after the one that ended now begins: an interval
// after the start of that, or at once if it took longer. A server that cannot
// answer at the moment is asked again sooner.
func (t *task) next(start, now time.Time, interval time.Duration, err error) time.Time {
	if err != nil && passing(status.ReasonOf(err)) {
		d := min(interval, firstRetry<<min(t.failures, 10))
		t.failures++
		return now.Add(jittered(d))
	}
	t.failures = 0
	if due := start.Add(jittered(interval)); due.After(now) {
		return due
	}
	return now
}

// jittered returns d, a tenth more or less.
func jittered(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// passing tells whether a server with this trouble may soon have none.
func passing(reason status.Reason) bool {
	switch reason {
	case status.ReasonUnreachable, status.ReasonLoading, status.ReasonBusy, status.ReasonMasterDown, status.ReasonMaxClients:
		return true
	}
	return false
}

// begin notes the start of a pass.
func (t *task) begin(now time.Time) {
	t.mu.Lock()
	t.began = now
	t.mu.Unlock()
	t.progress.begin(true)
}

// shown returns what is to be shown, nil for nothing. What is old lasts while a
// pass goes on that began before it was too old, and got to the keys in a budget.
func (b *backgrounds) shown(t *task, now time.Time) *sink {
	old := t.readAt.Add(staleAfter * b.interval)
	goesOn := t.progress.underWay.Load() && t.progress.looked.Load() > 0 && !t.began.After(old)
	if !goesOn && now.After(old.Add(b.budget)) {
		return nil
	}
	return t.found
}

// settle keeps what a pass found.
func (t *task) settle(out *recorder, start time.Time, err error, show bool) {
	found := out.finish()
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if show {
		t.found, t.readAt = found, now
	}
	t.took = now.Sub(start)
	t.runs++
	t.dropped += out.dropped
	t.err, t.good = err, err == nil
}

// log writes a line when the outcome of a collector changes. Only the running
// goroutine calls it.
func (b *backgrounds) log(t *task, err error) {
	reason := status.Reason("")
	if err != nil {
		reason = status.ReasonOf(err)
	}
	changed := reason != t.outcome
	t.outcome = reason
	switch log := b.report.Logger(); {
	case !changed:
	case err == nil:
		log.Info("background collector recovered", "collector", t.name())
	default:
		log.Warn("background collector failed", "collector", t.name(), "reason", string(reason), "error", err, "hint", status.HintOf(err))
	}
}

// complaint returns why and how the first collector that is not content failed,
// "" when all are.
func (b *backgrounds) complaint() (status.Reason, string) {
	for _, t := range b.tasks {
		t.mu.Lock()
		err := t.err
		t.mu.Unlock()
		if err != nil && !errors.Is(err, context.Canceled) {
			text, _, _ := strings.Cut(err.Error(), "\n")
			return status.ReasonOf(err), "background collector " + t.name() + ": " + text
		}
	}
	return "", ""
}

// names are those that has knows.
func (b *backgrounds) names() []string {
	var names []string
	for _, t := range b.tasks {
		names = append(names, strings.TrimPrefix(t.name(), "single_"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// has tells whether a metric can be asked for by this name of a collector. The
// two collectors of keys have the same metrics, those of streams likewise.
func (b *backgrounds) has(name string) bool {
	return slices.ContainsFunc(b.tasks, func(t *task) bool { return strings.TrimPrefix(t.name(), "single_") == name })
}

// include adds what the collectors found to a scrape that the server answered.
// It waits for nothing.
func (b *backgrounds) include(out *sink) {
	now := time.Now()
	groupsTook := time.Duration(0)
	for _, t := range b.tasks {
		t.mu.Lock()
		found, took := b.shown(t, now), t.took
		t.mu.Unlock()
		if t.name() == "key_groups" {
			groupsTook = took
		}
		if found != nil {
			out.include(found)
		}
	}
	out.set(b.groupsTook, float64(groupsTook.Milliseconds()))
}

// emit adds how the collectors are doing.
func (b *backgrounds) emit(out *sink) {
	now := time.Now()
	for _, t := range b.tasks {
		t.mu.Lock()
		age, took, runs, dropped, good := now.Sub(t.readAt), t.took, t.runs, t.dropped, t.good
		t.mu.Unlock()
		name := t.name()
		out.set(b.age, age.Seconds(), name)
		out.set(b.duration, took.Seconds(), name)
		out.flag(b.success, good, name)
		out.set(b.runs, float64(runs), name)
		out.set(b.overflow, float64(dropped), name)
		out.set(b.progress, t.progress.ratio(), name)
	}
}

// wait waits for d, or until ctx ends, which it returns as an error.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
