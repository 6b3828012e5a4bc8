package exporter

import (
	"runtime"
	"sync"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Reasons lists why a server can be down for the exporter, for the Board and
// for the label reason.
func Reasons() []status.Reason {
	return []status.Reason{
		status.ReasonUnreachable, status.ReasonTimeout, status.ReasonTLS, status.ReasonAuth, status.ReasonNoPerm,
		status.ReasonUnknownCmd, status.ReasonLoading, status.ReasonBusy, status.ReasonMasterDown,
		status.ReasonMaxClients, status.ReasonRedis, status.ReasonProtocol, status.ReasonFile, status.ReasonInternal,
	}
}

// self is what the exporter says of itself.
type self struct {
	names  []string // of the collectors
	labels []string // values of build_info

	up, down                                       *family
	scrapes, durations, lastDuration, lastConnect  *family
	lastPing, lastError, build, certificate        *family
	success, duration, readTime, refused, overflow *family
	rejected                                       *family

	mu          sync.Mutex
	collections uint64
	seconds     float64
	dropped     uint64
	rejects     uint64
}

func newSelf(c *catalog, collectors []collector, opts Options) *self {
	s := &self{
		up: c.add(typeGauge, "up", "exporter", "1 when the server answered this scrape, 0 when it did not: redis_sidecar_redis_down says why."),
		scrapes: c.add(typeCounter, "exporter_scrapes_total", "exporter",
			"Collections from the server; scrapes that come at the same time share one."),
		durations: c.add(typeSummary, "exporter_scrape_duration_seconds", "exporter",
			"Seconds the collections took, this one included."),
		lastDuration: c.add(typeGauge, "exporter_last_scrape_duration_seconds", "exporter",
			"Seconds this collection took."),
		lastConnect: c.add(typeGauge, "exporter_last_scrape_connect_time_seconds", "exporter",
			"Seconds the connection took to make when it was last made; it is kept between scrapes."),
		lastPing: c.add(typeGauge, "exporter_last_scrape_ping_time_seconds", "exporter",
			"Seconds between PING and its answer before this collection; only there when that is asked for."),
		certificate: c.add(typeGauge, "tls_server_certificate_expiry_timestamp_seconds", "exporter",
			"Unix time at which the certificate ends that the server showed when the connection was made; only there with TLS."),
		lastError: c.add(typeGauge, "exporter_last_scrape_error", "exporter",
			"1 when this scrape failed, with its reason as err; 0 with an empty err when it did not.", "err"),
		build: c.add(typeGauge, "exporter_build_info", "exporter",
			"1, with the version of this program.", "build_date", "commit_sha", "golang_version", "version"),

		rejected: c.add(typeCounter, "target_scrape_request_errors_total", "exporter",
			"Requests to /scrape that were refused: no target, one that is not allowed, a bad key check."),

		down: c.addOwn(typeGauge, "redis_down",
			"1 for the reason why the server did not answer this scrape, 0 for all others.", "reason"),
		success: c.addOwn(typeGauge, "exporter_collector_success",
			"1 when a collector got all it wants from this server, 0 when not.", "collector"),
		duration: c.addOwn(typeGauge, "exporter_collector_duration_seconds",
			"Seconds a collector took to turn replies into series; reading them is in exporter_read_duration_seconds.", "collector"),
		readTime: c.addOwn(typeGauge, "exporter_read_duration_seconds",
			"Seconds this collection waited for the server's replies to all collectors."),
		refused: c.addOwn(typeGauge, "exporter_command_refused",
			"1 for a command that the server does not allow or does not know, so that it is not asked.", "command", "reason"),
		overflow: c.addOwn(typeCounter, "exporter_dropped_series_total",
			"Series left out because their metric had too many."),
	}
	for _, f := range []*family{s.scrapes, s.durations, s.lastConnect, s.build, s.rejected} {
		f.role = false // as in redis_exporter
	}
	for _, c := range collectors {
		s.names = append(s.names, c.name())
	}
	if opts.Version != "" {
		s.labels = []string{opts.Date, opts.Commit, runtime.Version(), opts.Version}
	}
	return s
}

// count adds one collection to the totals.
func (s *self) count(c scrape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collections++
	s.seconds += c.took.Seconds()
	s.dropped += uint64(c.dropped)
}

// reject counts a request to /scrape that was refused.
func (s *self) reject() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejects++
}

// alone adds what there is to say without a server.
func (s *self) alone(out *sink) {
	s.mu.Lock()
	rejects := s.rejects
	s.mu.Unlock()
	out.set(s.rejected, float64(rejects))
	if s.labels != nil {
		out.set(s.build, 1, s.labels...)
	}
}

// emit adds the exporter's own series.
func (s *self) emit(out *sink, c scrape) {
	s.mu.Lock()
	count, seconds, dropped, rejects := s.collections, s.seconds, s.dropped, s.rejects
	s.mu.Unlock()

	reason := ""
	if c.err != nil {
		reason = string(downReason(c.err))
	}
	out.flag(s.up, c.err == nil)
	for _, r := range Reasons() {
		out.flag(s.down, string(r) == reason, string(r))
	}
	out.flag(s.lastError, c.err != nil, reason)
	out.set(s.scrapes, float64(count))
	out.summary(s.durations, count, seconds, nil)
	out.set(s.rejected, float64(rejects))
	out.set(s.lastDuration, c.took.Seconds())
	out.set(s.lastConnect, c.connect.Seconds())
	if c.ping > 0 {
		out.set(s.lastPing, c.ping.Seconds())
	}
	if !c.expiry.IsZero() {
		out.set(s.certificate, float64(c.expiry.Unix()))
	}
	if s.labels != nil {
		out.set(s.build, 1, s.labels...)
	}
	for i, name := range s.names {
		var o outcome
		if c.outcomes != nil {
			o = c.outcomes[i]
		}
		out.flag(s.success, c.outcomes != nil && o.err == nil, name)
		out.set(s.duration, o.took.Seconds(), name)
	}
	out.set(s.readTime, c.read.Seconds())
	for _, a := range c.refused {
		out.set(s.refused, 1, a.name, string(status.ReasonOf(a.refused)))
	}
	out.set(s.overflow, float64(dropped))
}

// downReason returns the reason of err, as one of Reasons.
func downReason(err error) status.Reason {
	reason := status.ReasonOf(err)
	for _, r := range Reasons() {
		if r == reason {
			return r
		}
	}
	return status.ReasonInternal
}
