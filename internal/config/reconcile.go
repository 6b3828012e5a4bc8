package config

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

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
		// The change of state logs the first problem of the first bad file.
		if j.metrics.attempt(attempt{hash: tree.Hash}, "invalid") && (j.bad || len(problems) > 1) {
			j.rep.Logger().Warn("redis.conf is not good, none of it was applied", "problems", j.detail.Problems)
		}
		j.bad = true
		return err
	}
	j.bad = false
	j.detail.Directives = len(tree.Directives)
	if askErr != nil {
		if tree.Hash != j.applied.hash {
			j.metrics.attempt(attempt{hash: tree.Hash}, "error")
		}
		return askErr
	}
	return j.compare(ctx, tree, asked, seen, live)
}

// ask learns which server is there, and all its values. A refusal for want of a
// permission is remembered and not provoked again at every turn.
func (j *Job) ask(ctx context.Context, tree *Tree) (info.Info, map[string]string, error) {
	if j.forbidden(tree) {
		return info.Info{}, nil, j.tryErr
	}
	seen, err := call(ctx, j.o.Timeout, func(ctx context.Context) (info.Info, error) { return j.server.Info(ctx) })
	if err != nil {
		return info.Info{}, nil, j.remember(tree, "", missing(err, "+info"))
	}
	if seen.Mode() == "sentinel" { // to it CONFIG is an unknown command
		return info.Info{}, nil, status.WithHint(status.ReasonRejected, "redis.addr must name the redis-server that is started with this file; a Sentinel keeps its sentinel.conf itself",
			errors.New("the server is a Sentinel: it has none of the parameters of redis.conf"))
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

// forbidden tells whether the server lately refused a command to this user, and
// nobody has touched the file since.
func (j *Job) forbidden(tree *Tree) bool {
	if j.tryErr == nil || j.tried.hash != tree.Hash || !time.Now().Before(j.retryAt) {
		return false
	}
	reason := status.ReasonOf(j.tryErr)
	return reason == status.ReasonNoPerm || reason == status.ReasonUnknownCmd
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
