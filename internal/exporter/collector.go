package exporter

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// collector turns one subject of the server's answers into series.
type collector interface {
	// name is the value of the label collector.
	name() string
	// ask returns the commands whose replies the collector wants from such a
	// server, besides INFO; none when it wants nothing of it.
	ask(server traits) []command
	// collect adds series to out. replies has one element for each command of
	// ask, in order; it is nil where the server answered with an error or was
	// not asked for that reason, which the caller reports. An error says that a
	// reply has another shape than the command's; what was added stays.
	collect(r *reading, replies []any, out *sink) error
}

// command is something to ask, and what it is called in Redis' ACL and
// statistics, whatever name the server has it under.
type command struct {
	name string
	args []string
}

// infoOnly is embedded by collectors that need no command of their own.
type infoOnly struct{}

func (infoOnly) ask(traits) []command { return nil }

// reading is one read of the server.
type reading struct {
	info   info.Info
	server traits
	at     time.Time
	// commands is what INFO commandstats says of each command, and of each
	// container command the sum of its subcommands. The collector of that
	// section fills it for those behind it.
	commands map[string]commandTotals
	// config has the parameters of the configuration that collectors other than
	// its own want. That collector fills it for those behind it.
	config map[string]string
	// followed has the replies to what collectors asked after the first replies,
	// by collector.
	followed map[string][]any
	// databases is the configured number of databases, 0 when not known. The
	// collector of the configuration sets it.
	databases int

	replies  []any   // one for each ask of the plan
	problems []error // likewise: why there is no reply
}

// newCollectors returns every collector that is not disabled, in the order they
// run in.
func newCollectors(c *catalog, opts Options) []collector {
	seen := 0
	own := func(of collector) collector {
		for _, f := range c.families[seen:] {
			f.owner = of.name()
		}
		seen = len(c.families)
		return of
	}
	table := newFields(c)
	all := []collector{
		own(table),
		own(newInstance(c)),
		own(newReplication(c)),
		own(newConfig(c, opts)), // before those that need a parameter of it
		own(newKeyspace(c, opts.Collect)),
		own(newCommands(c)),
		own(newErrors(c)),
		own(newSlowlog(c, opts.Collect)), // after commands, which knows their names
		own(newCommandlog(c)),
		own(newLatency(c)),
		own(newHistogram(c)), // after commands, which has its sums
		own(newCluster(table)),
		own(newClusterNodes(c)),
		own(newClusterLinks(c)),
		own(newSentinel(c, opts.Collect)),
		own(newModules(c, table)),
		own(newTile38(table)),
		own(newFiles(c, opts.Files)),
		own(newCertificates(c)),
		own(newEngines(c)),
	}
	// All of them describe their metrics, so that the documentation has them.
	off := slices.Clone(opts.Disabled)
	for name, on := range map[string]bool{"modules": opts.Collect.Modules, "tile38": opts.Collect.Tile38, "files": opts.Files.on()} {
		if !on {
			off = append(off, name)
		}
	}
	return slices.DeleteFunc(all, func(c collector) bool { return slices.Contains(off, c.name()) })
}

// outcome is how one collector did.
type outcome struct {
	err  error
	took time.Duration
}

// run runs one collector. A panic is an error of that collector: an odd reply
// must not end the process.
func run(c collector, r *reading, replies []any, out *sink) (o outcome) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			o.err = status.WithReason(status.ReasonInternal, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
		o.took = time.Since(start)
	}()
	return outcome{err: c.collect(r, replies, out)}
}

// odd is the error for a reply of another shape than the command has.
func odd(command string, reply any) error {
	return status.WithReason(status.ReasonProtocol, fmt.Errorf("%s: unexpected reply of type %T", command, reply))
}
