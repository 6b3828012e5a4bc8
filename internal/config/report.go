package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

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
