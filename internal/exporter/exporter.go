package exporter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Server is the connection to the server that an Exporter needs. It must not be
// shared with callers that keep it busy: a scrape would wait for them.
type Server interface {
	// Pipeline sends all commands at once and returns their replies in order: a
	// string, an int64, nil, a []any of these, or an error for an error reply.
	// The second result is not nil only when the connection failed or ctx
	// ended; it comes at the latest when ctx does. Errors carry a status.Reason.
	Pipeline(ctx context.Context, commands ...[]string) ([]any, error)
}

// connectTimer may be implemented by a Server: how long its latest connection
// took to make, from dialling to the answer to AUTH.
type connectTimer interface{ ConnectTime() time.Duration }

// Options are the settings of an Exporter. The zero value is good.
type Options struct {
	// Namespace is the prefix of the server's metrics. The default is "redis".
	Namespace string
	// Timeout bounds a scrape whose context or request has no deadline of its
	// own. The default is 5 s.
	Timeout time.Duration
	// ConfigCommand is what CONFIG is called on the server. The default is
	// "CONFIG"; "-" means that it is not asked.
	ConfigCommand string
	// Version, Commit and Date are of this program's build, for build_info.
	// Without a version there is none.
	Version, Commit, Date string
}

// Exporter collects the metrics of one server. Its methods may be called from
// any goroutine.
type Exporter struct {
	server     Server
	report     *status.Reporter
	timeout    time.Duration
	catalog    *catalog
	collectors []collector
	self       *self
	flights    flights

	plan   *plan           // nil: the server is not known; used by the running collection
	broken map[string]bool // collectors that panicked the last time; likewise
}

// New returns an exporter of server. It tells report after each collection how
// it went.
func New(server Server, report *status.Reporter, opts Options) *Exporter {
	opts = opts.withDefaults()
	c := newCatalog(opts.Namespace)
	e := &Exporter{
		server:     server,
		report:     report,
		timeout:    opts.Timeout,
		catalog:    c,
		collectors: newCollectors(c, opts),
		broken:     make(map[string]bool),
	}
	e.self = newSelf(c, e.collectors, opts)
	c.seal()
	return e
}

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = "redis"
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.ConfigCommand == "" {
		o.ConfigCommand = "CONFIG"
	}
	return o
}

// Scrape returns the server's metrics and those of the exporter itself, ordered
// by name. It always returns in time, before ctx ends or Options.Timeout is
// over, and always with some: up is 0 when the server did not answer. Scrapes
// that overlap share one collection, so the families must not be changed.
func (e *Exporter) Scrape(ctx context.Context) []*dto.MetricFamily {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	families, err := e.flights.do(ctx, e.collect)
	if err != nil {
		// The collection that this scrape joined outlasts it.
		out := newSink(e.catalog)
		e.self.emit(out, scrape{err: status.WithReason(status.ReasonTimeout, err)})
		return out.families()
	}
	return families
}

// scrape is how one collection went.
type scrape struct {
	err      error // why redis_up is 0
	outcomes []outcome
	refused  []ask
	connect  time.Duration
	read     time.Duration
	took     time.Duration
	dropped  int
}

// collect reads the server once and makes the families. Only one runs at a time.
func (e *Exporter) collect(ctx context.Context) []*dto.MetricFamily {
	start := time.Now()
	out := newSink(e.catalog)
	r, err := e.read(ctx)
	s := scrape{err: err, read: time.Since(start)}
	if t, ok := e.server.(connectTimer); ok {
		s.connect = t.ConnectTime()
	}
	if err == nil {
		s.outcomes = e.runAll(r, out)
		for _, a := range e.plan.asks {
			if a.refused != nil {
				s.refused = append(s.refused, a)
			}
		}
	}
	s.dropped = out.dropped
	s.took = time.Since(start)
	if gone := errors.Is(ctx.Err(), context.Canceled); !gone {
		e.self.count(s)
		e.tell(s)
	}
	e.self.emit(out, s)
	return out.families()
}

// runAll runs the collectors.
func (e *Exporter) runAll(r *reading, out *sink) []outcome {
	outcomes := make([]outcome, len(e.collectors))
	for i, c := range e.collectors {
		span := e.plan.spans[i]
		o := run(c, r, r.replies[span.from:span.to], out)
		for _, problem := range r.problems[span.from:span.to] {
			// What the server does not know is no failure of the collector.
			if o.err == nil && problem != nil && status.ReasonOf(problem) != status.ReasonUnknownCmd {
				o.err = problem
			}
		}
		outcomes[i] = o
	}
	return outcomes
}

// tell reports the collection to the Board.
func (e *Exporter) tell(s scrape) {
	e.report.Ran(s.took)
	if s.err != nil {
		e.report.Failure(s.err)
		return
	}
	var denied []string
	for _, a := range s.refused {
		if status.ReasonOf(a.refused) == status.ReasonNoPerm {
			denied = append(denied, a.name)
		}
	}
	var reason status.Reason
	message := ""
	for i, o := range s.outcomes {
		name := e.collectors[i].name()
		panicked := o.err != nil && status.ReasonOf(o.err) == status.ReasonInternal
		if panicked && !e.broken[name] {
			e.report.Logger().Error("collector panicked", "collector", name, "error", o.err)
		}
		e.broken[name] = panicked
		if o.err != nil && message == "" {
			reason = status.ReasonOf(o.err)
			text, _, _ := strings.Cut(o.err.Error(), "\n")
			message = fmt.Sprintf("metrics of %s are missing: %s", name, text)
		}
	}
	switch {
	case len(denied) > 0:
		e.report.Warn(status.ReasonNoPerm, "metrics are missing, the server's ACL does not allow "+strings.Join(denied, ", "))
	case message != "":
		e.report.Warn(reason, message)
	default:
		e.report.Success(e.plan.server.String())
	}
}
