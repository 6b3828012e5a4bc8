package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
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
	// once. The default is ten Intervals.
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
// prometheus.Collector of the job's own metrics.
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
	failures int // in a row, for the backoff
	detail   Detail
}

// attempt is one content of the files for one life of the server.
type attempt struct{ hash, runID string }

// peer is one life of the server.
type peer struct {
	runID string
	cat   *catalogue
	start map[string]string // CONFIG GET * when it was first seen
	first *wanted           // what the file asked for then; nil before a good file
	// before are the settings that the server may have from the file: those that
	// leave the file go back to their default.
	before map[string]*setting
	// beyond is what the machine does not give, by key: the value asked for.
	beyond map[string]Change
	// altered is what the server made of a value that it took.
	altered map[string]Change
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
		case <-j.watch.errors(): // events were lost
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

// reconcile is one comparison. An error is why files and server could not be
// compared or made equal.
func (j *Job) reconcile(ctx context.Context, tree *Tree, problems Problems) error {
	j.detail.ofFile(tree)
	seen, live, askErr := j.ask(ctx, tree)

	// A bad file is reported whether or not the server answers.
	cat := newCatalogue("")
	if j.peer != nil {
		cat = j.peer.cat
	}
	asked, more := cat.interpret(tree)
	problems = sortProblems(tree, append(problems, more...))
	j.detail.Problems = problems.Strings()
	if err := problems.Err(); err != nil {
		if j.metrics.attempt(attempt{hash: tree.Hash}, "invalid") && len(problems) > 1 {
			j.rep.Logger().Warn("redis.conf has several problems, none of it was applied", "problems", j.detail.Problems)
		}
		return err
	}
	j.detail.Directives = len(tree.Directives)
	if askErr != nil {
		return askErr
	}
	return j.compare(ctx, tree, asked, seen, live)
}

// ask learns which server is there, and all its values. A refusal for want of a
// permission is remembered and not provoked again at every turn.
func (j *Job) ask(ctx context.Context, tree *Tree) (info.Info, map[string]string, error) {
	if reason := status.ReasonOf(j.tryErr); j.tryErr != nil && (reason == status.ReasonNoPerm || reason == status.ReasonUnknownCmd) &&
		j.tried.hash == tree.Hash && time.Now().Before(j.retryAt) {
		return info.Info{}, nil, j.tryErr
	}
	seen, err := call(ctx, j.o.Timeout, func(ctx context.Context) (info.Info, error) { return j.server.Info(ctx) })
	if err != nil {
		return info.Info{}, nil, j.remember(tree, "", missing(err, "+info"))
	}
	live, err := j.values(ctx)
	if err != nil {
		return info.Info{}, nil, j.remember(tree, "", missing(err, "+config|get"))
	}
	if id := seen.Get("run_id"); j.peer == nil || j.peer.runID != id {
		j.peer = &peer{
			runID:   id,
			cat:     newCatalogue(seen.Get("redis_version")).withServer(live),
			start:   live,
			beyond:  map[string]Change{},
			altered: map[string]Change{},
		}
		j.detail.RedisVersion, j.detail.RunID = seen.Get("redis_version"), id
	}
	return seen, live, nil
}

func (j *Job) values(ctx context.Context) (map[string]string, error) {
	return call(ctx, j.o.Timeout, func(ctx context.Context) (map[string]string, error) { return j.server.ConfigGet(ctx, "*") })
}

func call[T any](ctx context.Context, timeout time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}

// missing adds to an error what the sidecar's user lacks.
func missing(err error, right string) error {
	switch status.ReasonOf(err) {
	case status.ReasonNoPerm:
		return status.WithHint(status.ReasonNoPerm, "the sidecar's user needs "+right+": ACL SETUSER <user> +info +config|get +config|set", err)
	case status.ReasonUnknownCmd:
		return status.WithHint(status.ReasonUnknownCmd, "CONFIG was renamed or removed by rename-command: the file cannot be compared with this server", err)
	}
	return err
}

// remember keeps a refusal that is not provoked again before its time.
func (j *Job) remember(tree *Tree, runID string, err error) error {
	j.tried, j.tryErr, j.retryAt = attempt{tree.Hash, runID}, err, time.Now().Add(j.o.Patience)
	return err
}

// compare makes the server equal to the file, if the file has changed or the
// server is new; otherwise it takes down where they differ.
func (j *Job) compare(ctx context.Context, tree *Tree, asked *wanted, seen info.Info, live map[string]string) error {
	p := j.peer
	if p.first == nil {
		p.first, p.before = asked, asked.settings
	}
	hidden, err := j.hiddenValues(ctx, asked, live)
	if err != nil {
		return err
	}
	all := maps.Clone(asked.settings)
	maps.Copy(all, backToDefault(p.cat, p.before, asked.settings, p.first.settings, p.start))

	this := attempt{tree.Hash, p.runID}
	if this != j.applied {
		todo := makePlan(p.cat, all, p.first.settings, hidden)
		if err := j.enforce(ctx, this, tree, todo, seen); err != nil {
			j.take(todo, asked, hidden, false)
			return err
		}
		after, err := j.values(ctx)
		if err != nil {
			return missing(err, "+config|get")
		}
		if hidden, err = j.hiddenValues(ctx, asked, after); err != nil {
			return err
		}
		for _, c := range makePlan(p.cat, all, p.first.settings, hidden).apply {
			if _, known := p.beyond[c.Name]; !known {
				p.altered[c.Name] = c
			}
		}
		p.before = all
		j.applied = this
	}
	j.take(makePlan(p.cat, all, p.first.settings, hidden), asked, hidden, true)
	p.forget(asked.settings, j.detail.Drift, j.detail.Restart)
	return nil
}

// forget drops the lines that have left the file and whose parameters are back
// at their defaults.
func (p *peer) forget(asked map[string]*setting, open ...[]Change) {
	p.before = maps.Clone(p.before)
	maps.DeleteFunc(p.before, func(key string, _ *setting) bool {
		for _, list := range open {
			if slices.ContainsFunc(list, func(c Change) bool { return c.Name == key }) {
				return false
			}
		}
		return asked[key] == nil
	})
}

// hiddenValues completes the answer to CONFIG GET * by the parameters that the
// file sets and that answer to their exact name only.
func (j *Job) hiddenValues(ctx context.Context, asked *wanted, live map[string]string) (map[string]string, error) {
	for _, s := range asked.settings {
		if _, ok := live[s.spec.name]; ok || !s.spec.hidden {
			continue
		}
		one, err := call(ctx, j.o.Timeout, func(ctx context.Context) (map[string]string, error) { return j.server.ConfigGet(ctx, s.spec.name) })
		if err != nil {
			return nil, missing(err, "+config|get")
		}
		live = maps.Clone(live)
		maps.Copy(live, one)
	}
	return live, nil
}

// enforce sends what can be set, all or nothing, and logs what was done.
func (j *Job) enforce(ctx context.Context, this attempt, tree *Tree, todo plan, seen info.Info) error {
	if this == j.tried && j.tryErr != nil && time.Now().Before(j.retryAt) {
		return j.tryErr
	}
	p := j.peer
	changes := slices.DeleteFunc(slices.Clone(todo.apply), func(c Change) bool { return p.beyond[c.Name].want == c.want && c.want != "" })
	ctx, cancel := context.WithTimeout(ctx, j.o.Timeout)
	defer cancel()
	refused, err := apply(ctx, j.server, p.cat.version, pairs(changes))
	if err != nil {
		return j.refused(this, tree, changes, seen, err)
	}
	done := changes[:0:0]
	for _, c := range changes {
		if why, ok := refused[c.spec.name]; ok {
			c.Why = why
			p.beyond[c.Name] = c
			continue
		}
		done = append(done, c)
	}
	clear(p.altered)
	j.tryErr = nil
	j.metrics.attempt(this, "success")
	j.detail.Applied, j.detail.AppliedAt = bounded(done), time.Now()
	if len(done)+len(refused)+len(todo.restart)+len(todo.refused) > 0 {
		j.rep.Logger().Info("redis.conf applied", "applied", list(done), "restart_needed", names(todo.restart), "not_applied", names(todo.refused))
	}
	return nil
}

// refused turns what the server said to CONFIG SET into what is reported.
func (j *Job) refused(this attempt, tree *Tree, changes []Change, seen info.Info, err error) error {
	switch status.ReasonOf(err) {
	case status.ReasonRejected:
		if loading, _ := seen.Int("loading"); loading != 0 {
			// Some parameters cannot be set while the data is loaded.
			return status.WithReason(status.ReasonLoading, err)
		}
		if r, ok := errors.AsType[*rejection](err); ok {
			if i := slices.IndexFunc(changes, func(c Change) bool { return c.spec.name == r.name }); i >= 0 && changes[i].Where != "" {
				err = fmt.Errorf("%s: %w", changes[i].Where, err)
			}
		}
		j.metrics.attempt(this, "rejected")
		return j.remember(tree, this.runID, err)
	case status.ReasonNoPerm, status.ReasonUnknownCmd:
		j.metrics.attempt(this, "error")
		return j.remember(tree, this.runID, missing(err, "+config|set"))
	}
	j.metrics.attempt(this, "error")
	return err
}

// take writes down where file and server differ. What CONFIG SET could mend is
// drift once the file was applied.
func (j *Job) take(p plan, asked *wanted, live map[string]string, applied bool) {
	d := &j.detail
	d.Drift, d.Altered, d.Refused = nil, nil, bounded(p.refused)
	for _, c := range p.apply {
		beyond, altered := j.peer.beyond[c.Name], j.peer.altered[c.Name]
		switch {
		case beyond.want == c.want && beyond.Name != "":
			c.Why = beyond.Why
			d.Refused = append(d.Refused, c)
		case altered.want == c.want && altered.have == c.have && altered.Name != "":
			c.Why = "the server took the value and holds another"
			d.Altered = append(d.Altered, c)
		case applied:
			c.Why = "changed in the server since the file was applied"
			d.Drift = append(d.Drift, c)
		default:
			c.Why = "not applied yet"
			d.Drift = append(d.Drift, c)
		}
	}
	d.Restart = bounded(append(p.restart, changedLines(j.peer.first, asked)...))
	d.Ignored = bounded(p.ignored)
	d.Outside = bounded(outside(j.peer.cat, asked.settings, live))
	j.metrics.state(len(d.Restart), len(d.Drift))
}

// changedLines returns the directives that are no parameters and whose lines are
// others than when the server was first seen.
func changedLines(first, now *wanted) []Change {
	var out []Change
	names := maps.Clone(first.fixed)
	maps.Copy(names, now.fixed)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if first.fixed[name] != now.fixed[name] {
			out = append(out, Change{Name: name, From: redacted, To: redacted, Why: "its lines have changed; redis-server reads them at its start only"})
		}
	}
	return out
}

// report gives the outcome of a comparison to the board.
func (j *Job) report(tree *Tree) {
	d := &j.detail
	alone, isAlone := mountedAlone(tree.Files)
	d.Note = ""
	if isAlone {
		d.Note = alone + " is mounted alone (subPath): it never changes while this container runs; mount the whole volume"
	}
	var parts []string
	var reason status.Reason
	add := func(r status.Reason, what string, changes []Change) {
		if len(changes) == 0 {
			return
		}
		if reason == "" {
			reason = r
		}
		parts = append(parts, what+": "+names(changes))
	}
	add(status.ReasonDrift, "changed in the server, not in the file", d.Drift)
	add(status.ReasonRejected, "the server holds another value than it was given", d.Altered)
	add(status.ReasonRejected, "not applied", d.Refused)
	add(status.ReasonRestart, "needs a restart of redis-server", d.Restart)
	if isAlone {
		parts = append(parts, d.Note)
		if reason == "" {
			reason = status.ReasonFile
		}
	}
	if reason == "" {
		j.rep.Success(fmt.Sprintf("the server equals %s (%d directives)", tree.Path, len(tree.Directives)))
		return
	}
	j.rep.Warn(reason, strings.Join(parts, "; "))
}
