// Package status is the Board: what each job last did, what it does next, and
// why it is not content. Jobs write to it; probes, metrics, the log and the
// status page read from it. It imports no other package of this project.
package status

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Job names one of the sidecar's jobs.
type Job string

// The jobs. The set is closed: it is a metric label.
const (
	Announce Job = "announce"
	Config   Job = "config"
	Exporter Job = "exporter"
	Backup   Job = "backup"
	Probe    Job = "probe"
)

// State is how a job is doing.
type State string

// The states. The set is closed: it is a metric label.
const (
	Starting State = "starting" // no result yet
	OK       State = "ok"       // the last run did what it should
	Warning  State = "warning"  // it did, but a person should look (drift, restart needed)
	Failing  State = "failing"  // the last run failed; it will be retried
	Disabled State = "disabled" // switched off by the settings
)

// States lists every State, in the order of the documentation.
func States() []State { return []State{Starting, OK, Warning, Failing, Disabled} }

// Overall returns the state of all jobs together: the worst there is, and Starting
// before OK. An exporter that nobody has asked for metrics yet does not count beside
// other jobs: it is not about to get ready but ready.
func Overall(reports []Report) State {
	overall := Disabled
	unasked := false
	for _, r := range reports {
		switch {
		case r.Job == Exporter && r.State == Starting, strings.HasPrefix(string(r.Job), string(Exporter)+":") && r.State == Starting:
			unasked = true
		case severity(r.State) > severity(overall):
			overall = r.State
		}
	}
	if overall == Disabled && (unasked || len(reports) == 0) {
		return Starting
	}
	return overall
}

// severity orders the states.
func severity(s State) int {
	return slices.Index([]State{Disabled, OK, Starting, Warning, Failing}, s)
}

// Report is a copy of what the Board knows of one job.
type Report struct {
	Job         Job       `json:"job"`
	State       State     `json:"state"`
	Reason      Reason    `json:"reason,omitempty"`  // of the present state, for warning and failing
	Message     string    `json:"message,omitempty"` // one line for people
	Hint        string    `json:"hint,omitempty"`    // what to do, for failing
	Since       time.Time `json:"since"`             // when this state began
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastError   string    `json:"last_error,omitempty"` // kept after recovery
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	NextRun     time.Time `json:"next_run,omitzero"`
	Detail      any       `json:"detail,omitempty"` // the job's own facts, JSON-marshallable, replaced whole
}

// Board holds one report per job. Its methods may be called from any goroutine.
type Board struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	jobs []*Reporter // in order of registration
}

// NewBoard returns an empty board that logs changes of state to log. A nil now
// means time.Now.
func NewBoard(log *slog.Logger, now func() time.Time) *Board {
	if now == nil {
		now = time.Now
	}
	return &Board{log: log, now: now}
}

// Register adds a job in state Starting and returns its reporter. reasons are
// the failure reasons whose counters exist from the start; ReasonInternal is
// always among them. Registering a job twice panics: it is a mistake in wiring.
func (b *Board) Register(job Job, reasons ...Reason) *Reporter {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.jobs {
		if r.report.Job == job {
			panic("status: job " + string(job) + " registered twice")
		}
	}
	r := &Reporter{
		board:    b,
		log:      b.log.With("job", string(job)),
		report:   Report{Job: job, State: Starting, Since: b.now()},
		failures: map[Reason]uint64{ReasonInternal: 0},
	}
	for _, reason := range reasons {
		r.failures[reason] = 0
	}
	b.jobs = append(b.jobs, r)
	return r
}

// Reports returns a copy of every job's report, in order of registration.
func (b *Board) Reports() []Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Report, len(b.jobs))
	for i, r := range b.jobs {
		out[i] = r.report
	}
	return out
}

// Report returns one job's report; ok is false when the job is not registered.
func (b *Board) Report(job Job) (_ Report, ok bool) {
	for _, r := range b.Reports() {
		if r.Job == job {
			return r, true
		}
	}
	return Report{}, false
}

// Reporter is one job's pen. Its methods may be called from any goroutine. Each
// of them logs one line when, and only when, state or reason changes.
type Reporter struct {
	board *Board
	log   *slog.Logger

	setting sync.Mutex // held while state and reason change, before board.mu

	// guarded by board.mu
	report   Report
	failures map[Reason]uint64
	runs     uint64
	seconds  float64 // sum over finished runs
	last     float64 // duration of the last finished run, seconds
}

// Report returns a copy of what the Board knows of the job.
func (r *Reporter) Report() Report {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	return r.report
}

// Logger returns the job's logger, which carries the attribute job.
func (r *Reporter) Logger() *slog.Logger { return r.log }

// Success records a good run. message says in one line what holds now.
func (r *Reporter) Success(message string) {
	r.set(OK, "", message, nil)
}

// Warn records a run that worked but left something for a person to do, such as
// a setting that needs a restart. It counts as a success and does not raise the
// failure counter.
func (r *Reporter) Warn(reason Reason, message string) {
	r.set(Warning, reason, message, nil)
}

// Failure records a failed run. The reason is taken from err, see ReasonOf.
// A nil err is ignored.
func (r *Reporter) Failure(err error) {
	if err == nil {
		return
	}
	r.set(Failing, ReasonOf(err), "", err)
}

// Count counts a failure, and nothing else, of a job that already fails for what is
// worse.
func (r *Reporter) Count(err error) {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.failures[ReasonOf(err)]++
}

// Disable records that the settings switched the job off, and why.
func (r *Reporter) Disable(message string) {
	r.set(Disabled, "", message, nil)
}

// set logs a change and then shows it: whoever sees a state finds its line in the
// log, and the lines are in the order of the states.
func (r *Reporter) set(state State, reason Reason, message string, err error) {
	r.setting.Lock()
	defer r.setting.Unlock()
	now, old := r.board.now(), r.Report()
	changed := old.State != state || old.Reason != reason
	if changed {
		r.logChange(old, now, state, reason, message, err)
	}

	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	if changed {
		r.report.State, r.report.Reason, r.report.Since = state, reason, now
	}
	r.report.Message, r.report.Hint = message, HintOf(err)
	switch state {
	case OK, Warning:
		r.report.LastSuccess = now
	case Failing:
		r.report.Message = err.Error()
		r.report.LastError = err.Error()
		r.report.LastErrorAt = now
		r.failures[reason]++
	}
}

func (r *Reporter) logChange(old Report, now time.Time, state State, reason Reason, message string, err error) {
	switch state {
	case OK:
		if old.State == Failing || old.State == Warning {
			r.log.Info("recovered", "message", message, "after", now.Sub(old.Since).Round(time.Millisecond), "was", string(old.Reason))
		} else {
			r.log.Info("ok", "message", message)
		}
	case Warning:
		r.log.Warn("needs attention", "reason", string(reason), "message", message)
	case Failing:
		attrs := []any{"reason", string(reason), "error", err}
		if hint := HintOf(err); hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		r.log.Error("failing", attrs...)
	case Disabled:
		r.log.Info("disabled", "message", message)
	}
}

// Detail replaces the job's own facts. detail must not be changed afterwards.
func (r *Reporter) Detail(detail any) {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.report.Detail = detail
}

// NextRun records when the job runs next. The zero time means that it does not
// run by a clock.
func (r *Reporter) NextRun(t time.Time) {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.report.NextRun = t
}

// Ran records how long one run took, successful or not.
func (r *Reporter) Ran(d time.Duration) {
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	r.runs++
	r.last = d.Seconds()
	r.seconds += r.last
}

// Reason says why something failed, as a closed set fit for a metric label.
type Reason string

// The reasons. What each means for a person stands in docs/metrics.md.
const (
	// Talking to redis-server.
	ReasonUnreachable Reason = "unreachable" // refused, no route, name does not resolve
	ReasonTimeout     Reason = "timeout"     // no answer in time: hung, stopped or overloaded
	ReasonTLS         Reason = "tls"         // handshake or certificate
	ReasonAuth        Reason = "auth"        // NOAUTH, WRONGPASS
	ReasonNoPerm      Reason = "noperm"      // NOPERM: the ACL user may not run this command
	ReasonUnknownCmd  Reason = "unknown_command"
	ReasonLoading     Reason = "loading"    // LOADING
	ReasonBusy        Reason = "busy"       // BUSY: a script or function runs too long
	ReasonMasterDown  Reason = "masterdown" // MASTERDOWN
	ReasonMisconf     Reason = "misconf"    // MISCONF: saving failed, writes are refused
	ReasonMaxClients  Reason = "maxclients" // max number of clients reached
	ReasonRedis       Reason = "redis"      // any other error reply
	ReasonProtocol    Reason = "protocol"   // the peer does not speak RESP

	// The snapshot store.
	ReasonStoreUnreachable Reason = "store_unreachable"
	ReasonStoreDenied      Reason = "store_denied"  // wrong keys or missing right
	ReasonStoreMissing     Reason = "store_missing" // bucket or directory does not exist
	ReasonStore            Reason = "store"         // any other store error

	// Files and snapshots.
	ReasonDiskFull  Reason = "disk_full"
	ReasonMemory    Reason = "memory"      // not enough for the server to fork
	ReasonFile      Reason = "file"        // a file cannot be read or written
	ReasonSyntax    Reason = "syntax"      // redis.conf does not parse, unknown directive
	ReasonRejected  Reason = "rejected"    // the server refused a value
	ReasonRestart   Reason = "restart"     // a changed setting needs a restart of redis-server
	ReasonDrift     Reason = "drift"       // the server was changed by hand and differs from its redis.conf
	ReasonSave      Reason = "save_failed" // BGSAVE failed, was killed or was refused
	ReasonSaveBusy  Reason = "save_busy"   // another child kept running
	ReasonVerify    Reason = "verify_failed"
	ReasonCorrupt   Reason = "corrupt"        // damaged, truncated or unknown format
	ReasonKey       Reason = "encryption_key" // there is no key to encrypt or decrypt with, or the wrong one
	ReasonAddress   Reason = "address"        // the pod's own address is not known or not valid
	ReasonRetention Reason = "retention"
	ReasonLease     Reason = "lease"    // another process takes the snapshot, or took over; or two may at once
	ReasonCanceled  Reason = "canceled" // stopped by a signal
	ReasonInternal  Reason = "internal" // a defect of the sidecar, or not classified
)

// Error adds a Reason, and if possible a hint on what to do, to an error.
type Error struct {
	Reason Reason
	Hint   string // what the user can do about it; may be empty
	Err    error
}

// Error returns the text of the wrapped error; the hint is separate, see HintOf.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// WithReason wraps err with a reason. It returns nil when err is nil.
func WithReason(reason Reason, err error) error {
	return WithHint(reason, "", err)
}

// WithHint wraps err with a reason and a hint. It returns nil when err is nil.
func WithHint(reason Reason, hint string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Reason: reason, Hint: hint, Err: err}
}

// ReasonOf returns the outermost Reason in err's chain, or ReasonInternal.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ReasonInternal
}

// HintOf returns the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
