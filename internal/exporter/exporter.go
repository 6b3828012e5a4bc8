package exporter

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/metric"
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
	// Include and Exclude are matched against the whole name of a metric: one of the
	// server that Include does not match, or any that Exclude does, is left out. Nil
	// is no restriction.
	Include, Exclude *regexp.Regexp
	// Disabled names collectors that are not run: see Collectors.
	Disabled []string
	// MaxSeries is how many series one metric may have. The default is 2000.
	MaxSeries int
	// InstanceRoleLabel adds the label instance_role to every metric of the server.
	InstanceRoleLabel bool
	// Sources are shown together with the server's metrics: those of the sidecar
	// itself.
	Sources []metric.Source
	// Collect says what more, or less, than the default is collected.
	Collect CollectOptions
	// Files says where the server's files are, for the metrics of their sizes.
	Files FileOptions
	// Version, Commit and Date are of this program's build, for build_info.
	// Without a version there is none.
	Version, Commit, Date string
	// Background are the collectors outside the scrape.
	Background BackgroundOptions
}

// Exporter collects the metrics of one server. Its methods may be called from
// any goroutine.
type Exporter struct {
	server     Server
	report     *status.Reporter
	timeout    time.Duration
	roleLabel  bool
	ping       bool
	catalog    *catalog
	collectors []collector
	background *backgrounds
	self       *self
	sources    *sources
	flights    flights
	sinks      sync.Pool              // of *sink
	role       atomic.Pointer[string] // for the label instance_role: the last one known

	plan   *plan           // nil: the server is not known; used by the running collection
	broken map[string]bool // collectors that panicked the last time; likewise

	plainInfo bool // the server knows INFO without ALL only; likewise
}

// New returns an exporter of server. It tells report after each collection how
// it went. Without a server, nil, it has only the metrics of Options.Sources.
func New(server Server, report *status.Reporter, opts Options) *Exporter {
	opts = opts.withDefaults()
	if opts.Collect.LogSlowlog {
		opts.Collect.log = report.Logger()
	}
	c := newCatalog(opts)
	e := &Exporter{
		server:     server,
		report:     report,
		timeout:    opts.Timeout,
		roleLabel:  opts.InstanceRoleLabel,
		ping:       opts.Collect.Ping,
		catalog:    c,
		collectors: newCollectors(c, opts),
		broken:     make(map[string]bool),
	}
	e.background = newBackgrounds(c, opts, report)
	e.self = newSelf(c, e.collectors, opts)
	e.sources = newSources(c, opts.Sources)
	c.seal()
	return e
}

// Collectors returns the names of all collectors, in the order they run in,
// those that have to be switched on included.
func Collectors() []string {
	return New(nil, nil, Options{Collect: CollectOptions{Modules: true, Tile38: true}, Files: FileOptions{Local: true}}).names()
}

// Run runs what is done outside scrapes, see BackgroundOptions, until ctx ends.
// It must not be called twice.
func (e *Exporter) Run(ctx context.Context) error {
	e.background.run(ctx)
	return nil
}

// Rejected counts a request to /scrape that was refused, see Scraper.
func (e *Exporter) Rejected() { e.self.reject() }

// names are those of the collectors that are not disabled.
func (e *Exporter) names() []string {
	names := make([]string, len(e.collectors))
	for i, c := range e.collectors {
		names[i] = c.name()
	}
	return names
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
	if o.MaxSeries == 0 {
		o.MaxSeries = 2000
	}
	return o
}

// Scrape returns the server's metrics and those of the exporter itself, ordered
// by name. It always returns in time, before ctx ends or Options.Timeout is
// over, and always with some: up is 0 when the server did not answer. Scrapes
// that overlap share one collection.
func (e *Exporter) Scrape(ctx context.Context) []*dto.MetricFamily {
	out := e.scrape(ctx)
	defer out.release()
	return out.families(selection{})
}

// scrape is Scrape before the families are made. The caller releases the sink.
func (e *Exporter) scrape(ctx context.Context) *sink {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	out, err := e.flights.do(ctx, e.collect)
	if err != nil {
		if !errors.Is(err, errCollection) { // the collection that this scrape joined outlasts it
			err = status.WithReason(status.ReasonTimeout, err)
		}
		out = e.sink()
		e.finish(out, scrape{err: err})
	}
	return out
}

// sink returns an empty sink with one reference.
func (e *Exporter) sink() *sink {
	s, _ := e.sinks.Get().(*sink)
	if s == nil {
		s = newSink(e.catalog)
		s.pool = &e.sinks
	}
	s.refs.Store(1)
	return s
}

// scrape is how one collection went.
type scrape struct {
	err      error // why redis_up is 0
	outcomes []outcome
	refused  []ask
	connect  time.Duration
	ping     time.Duration // 0: not asked, or no answer
	expiry   time.Time     // of the server's certificate; zero without TLS
	read     time.Duration
	took     time.Duration
	dropped  int
}

// collect reads the server once and makes the series. Only one runs at a time. A
// panic, which only a defect can be the cause of, makes the server count as down
// with the reason internal: it must neither end the process nor the exporter.
func (e *Exporter) collect(ctx context.Context) (out *sink) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			e.report.Logger().Error("a collection panicked", "panic", p, "stack", string(debug.Stack()))
			e.plan = nil
			s := scrape{err: status.WithReason(status.ReasonInternal, fmt.Errorf("panic: %v", p)), took: time.Since(start)}
			e.self.count(s)
			e.report.Failure(s.err)
			out = e.sink()
			e.self.emit(out, s)
			out.finish()
		}
	}()
	out = e.sink()
	if e.server == nil {
		e.self.alone(out)
		e.sources.emit(out)
		out.finish()
		return out
	}
	ping := e.timePing(ctx)
	reading := time.Now()
	r, err := e.read(ctx)
	s := scrape{err: err, ping: ping, read: time.Since(reading)}
	if t, ok := e.server.(connectTimer); ok {
		s.connect = t.ConnectTime()
	}
	if t, ok := e.server.(certificateHolder); ok {
		s.expiry = t.CertificateExpiry()
	}
	if err == nil {
		if e.roleLabel {
			role := roleOf(r)
			e.role.Store(&role)
		}
		s.outcomes = e.runAll(r, out)
		e.background.include(out)
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
		if !impatient(ctx, start, err) {
			e.tell(s)
		}
	}
	e.finish(out, s)
	return out
}

// shortest is how long a server may take to answer, however little time a scrape
// has: who may scrape must not be able to have the job counted as failing.
const shortest = 250 * time.Millisecond

// impatient tells whether a collection failed because it had no time to succeed.
func impatient(ctx context.Context, start time.Time, err error) bool {
	end, ok := ctx.Deadline()
	return ok && err != nil && status.ReasonOf(err) == status.ReasonTimeout && end.Sub(start) < shortest
}

// finish adds what the exporter says of itself.
func (e *Exporter) finish(out *sink, s scrape) {
	if role := e.role.Load(); role != nil {
		out.role = *role
	}
	e.self.emit(out, s)
	e.sources.emit(out)
	e.background.emit(out)
	out.finish()
}

// roleOf returns the value of the label instance_role.
func roleOf(r *reading) string {
	if r.server.sentinel {
		return "sentinel"
	}
	return strings.Clone(r.info.Get("role"))
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
	if message == "" {
		reason, message = e.background.complaint()
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
