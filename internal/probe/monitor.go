package probe

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Options configure a Monitor. The zero value of every field but Policy is a
// usable default.
type Options struct {
	// Interval is the time between two looks. The default is 1 s.
	Interval time.Duration
	// Policy is the verdict table's. The zero value means DefaultPolicy.
	Policy Policy
	// AnnounceOK says whether the address that this server announces is its own,
	// and if not, what is wrong. Nil means that it is not looked at.
	AnnounceOK func() (bool, string)
	// Fresh opens a new connection, asks anything, closes it, and returns what
	// went wrong. It runs every FreshEvery looks, within FreshTimeout, to notice
	// that only the kept connection still works. Nil switches that off.
	Fresh func(context.Context) error
	// FreshEvery is in looks. The default is 30.
	FreshEvery int
}

// AskTimeout is how long one question may wait for its answer before the
// connection is given up and the next question goes out on a new one. It is long,
// because a server that loads from a slow disk answers seldom, and a new
// connection has to say hello first. The Server of a Monitor must not have a
// shorter time-out of its own.
const AskTimeout = 30 * time.Second

// FreshTimeout bounds a call of Options.Fresh.
const FreshTimeout = 2 * time.Second

// Looks after which a failing new connection, or a login that is good for nothing,
// is tried again.
const retryLooks = 5

// refusedLooks is for how many looks a refused command is left out.
const refusedLooks = 60

// Monitor looks at the server and remembers what verdicts need. Its methods may
// be called from any goroutine.
type Monitor struct {
	server Server
	opt    Options
	rep    *status.Reporter

	mu       sync.Mutex
	obs      Observation // without Stale, which is a matter of now
	mem      memory
	lastLook time.Time // when the loop last came by; zero before Run
}

// memory is what the verdicts need of the past.
type memory struct {
	runID      string
	lastErr    error
	linkWasUp  bool
	replicaFor time.Duration // time as a replica whose link never was up
	unanswered time.Duration // see Observation.Silent
	refused    refusals      // on this connection
	refusedFor int           // looks since they were last tried
}

// NewMonitor returns a Monitor, which looks when Run is called. It owns s.
func NewMonitor(s Server, o Options, rep *status.Reporter) *Monitor {
	if o.Policy == (Policy{}) {
		o.Policy = DefaultPolicy()
	}
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.FreshEvery <= 0 {
		o.FreshEvery = 30
	}
	return &Monitor{server: s, opt: o, rep: rep}
}

// Run looks until ctx ends, then closes the server's connection. Its error is
// always nil.
func (m *Monitor) Run(ctx context.Context) error {
	questions, answers := make(chan question), make(chan timedAnswer, 1)
	fresh := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { m.asker(ctx, questions, answers) })
	defer wg.Wait()
	defer close(questions)
	// A read that waits for a hung server is ended by closing its connection.
	defer func() { _ = m.server.Close() }()

	ticker := time.NewTicker(m.opt.Interval)
	defer ticker.Stop()
	var asking, freshing bool
	var skip, untilFresh int
	questions <- m.question()
	asking = true
	m.came()
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-answers:
			asking = false
			skip = m.absorb(a)
			m.report()
		case err := <-fresh:
			freshing = false
			untilFresh = m.absorbFresh(err)
		case <-ticker.C:
			m.tick(m.came(), asking)
			if asking {
				m.report()
				continue
			}
			if untilFresh--; m.opt.Fresh != nil && untilFresh < 0 && !freshing && m.isContent() {
				freshing = true
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(ctx, FreshTimeout)
					defer cancel()
					fresh <- m.opt.Fresh(ctx)
				})
			}
			if skip--; skip >= 0 {
				continue
			}
			asking = true
			questions <- m.question()
		}
	}
}

type question struct {
	cluster bool     // ask CLUSTER INFO, too
	without refusals // what is not asked
	timeout time.Duration
}

type timedAnswer struct {
	answer
	took time.Duration
}

// asker puts the questions, one at a time, so that the loop never waits.
func (m *Monitor) asker(ctx context.Context, questions <-chan question, answers chan<- timedAnswer) {
	for q := range questions {
		ctx, cancel := context.WithTimeout(ctx, q.timeout)
		start := time.Now()
		a := ask(ctx, m.server, q.cluster, q.without)
		cancel()
		answers <- timedAnswer{a, time.Since(start)}
	}
}

// came notes that the loop is alive and returns the time since it last was,
// which counts against the server. A longer stretch than two looks does not: then
// it was the sidecar that stood still, not the server.
func (m *Monitor) came() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	last := m.lastLook
	m.lastLook = now
	if last.IsZero() {
		return 0
	}
	return min(now.Sub(last), 2*m.opt.Interval)
}

// tick lets time pass: what has not got better since the last one got worse.
func (m *Monitor) tick(passed time.Duration, asking bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := &m.obs
	if asking {
		// A question is out for longer than one interval.
		if o.Contact == Answered || o.Contact == Unasked {
			o.Contact, o.Error = Silent, ""
		}
		o.Misses++
	}
	if asking || o.Contact == Silent || o.Contact == Refused {
		m.mem.unanswered += passed
		o.Silent = m.mem.unanswered
	}
	if o.Trouble == ReasonBusy || asking {
		o.Busy += passed
	}
	if o.Loading {
		o.LoadingStalled += passed
	}
	if o.Role == Replica && !o.LinkUp {
		m.mem.replicaFor += passed
		o.LinkDown += passed
	}
}

// absorb takes an answer in. It returns how many looks to leave out.
func (m *Monitor) absorb(a timedAnswer) (skip int) {
	m.rep.Ran(a.took)
	m.mu.Lock()
	defer m.mu.Unlock()
	o, mem := &m.obs, &m.mem
	mem.lastErr = a.err
	if mem.refusedFor++; a.refused == (refusals{}) || mem.refusedFor > refusedLooks {
		mem.refusedFor = 0
	}
	mem.refused = a.refused
	if a.contact != Answered {
		if a.contact != Unable {
			o.Misses++
		}
		if a.gone {
			m.forget()
		}
		a.facts(o)
		return 0
	}
	if id := a.info.Get("run_id"); id != "" {
		if mem.runID != "" && mem.runID != id {
			m.forget()
		}
		mem.runID = id
	}
	before := *o
	a.facts(o)
	mem.unanswered, o.Silent, o.Misses = 0, 0, 0
	o.WasUp = true
	o.Started = o.Started || !o.Loading
	if o.Trouble != ReasonBusy {
		o.Busy = 0
	}
	unknown := o.LoadedBytes == 0 && o.LoadingBytes == 0
	if !o.Loading || !before.Loading || unknown || o.LoadedBytes != before.LoadedBytes {
		o.LoadingStalled = 0
	}
	m.absorbLink()
	o.ClusterWasOK = o.ClusterWasOK || o.ClusterState == "ok"
	if o.Trouble == ReasonAuth || o.Trouble == ReasonNoPerm {
		return retryLooks // each try is a line in the server's ACL LOG
	}
	return 0
}

// absorbLink adds to a replica's facts what only a history knows.
func (m *Monitor) absorbLink() {
	o, mem := &m.obs, &m.mem
	switch {
	case o.Role == Master:
		// It has been in charge of its data; as a replica it starts anew.
		mem.linkWasUp, mem.replicaFor = false, 0
	case o.LinkUp:
		mem.linkWasUp, mem.replicaFor = true, 0
	case o.Role == Replica:
		o.HasData = o.HasData || mem.linkWasUp
		// INFO gives no time for a link that never was up.
		o.LinkDown = max(o.LinkDown, mem.replicaFor)
	}
}

// forget drops what was learnt of a server process that is gone.
func (m *Monitor) forget() {
	o := m.obs
	m.obs = Observation{
		Contact: o.Contact, Error: o.Error, Silent: o.Silent, Misses: o.Misses,
		AcceptMisses: o.AcceptMisses, AcceptFull: o.AcceptFull, AcceptError: o.AcceptError,
		WasUp: o.WasUp,
	}
	m.mem.runID = ""
	m.mem.linkWasUp, m.mem.replicaFor = false, 0
}

// absorbFresh takes in how a new connection went. It returns how many looks later
// the next one is due.
func (m *Monitor) absorbFresh(err error) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := &m.obs
	o.AcceptError, o.AcceptFull = "", false
	switch contact := contactOf(err); {
	case err == nil:
		o.AcceptMisses = 0
		return m.opt.FreshEvery
	case status.ReasonOf(err) == status.ReasonMaxClients:
		o.AcceptMisses, o.AcceptFull = 0, true
	case contact == Silent, contact == Refused:
		o.AcceptMisses++
	default:
		o.AcceptMisses = 0 // an error reply, or trouble of our own: it does accept
		return m.opt.FreshEvery
	}
	o.AcceptError = oneLine(err.Error())
	return retryLooks
}

// question returns the next question.
func (m *Monitor) question() question {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := question{
		cluster: m.obs.ClusterEnabled && !m.obs.Loading, // refused while LOADING
		timeout: AskTimeout,
	}
	if m.mem.refusedFor < refusedLooks {
		q.without = m.mem.refused
	}
	if m.obs.WasUp && !m.obs.Loading {
		// Nobody is declared dead who was not asked on a new connection, too.
		q.timeout = min(q.timeout, m.opt.Policy.DeadAfter/2)
	}
	return q
}

// isContent tells whether the last question was answered without complaint.
func (m *Monitor) isContent() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.obs.Contact == Answered && m.obs.Trouble == ""
}

// Verdicts judges what was last seen. It does not wait for the server.
func (m *Monitor) Verdicts() Verdicts {
	return Judge(m.observation(), m.opt.Policy)
}

// observation returns what is known now.
func (m *Monitor) observation() Observation {
	announce := m.announce()
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.obs
	o.Announce = announce
	if limit := max(3*m.opt.Interval, 5*time.Second); !m.lastLook.IsZero() {
		if d := time.Since(m.lastLook); d > limit {
			o.Stale = d
		}
	}
	return o
}

func (m *Monitor) announce() string {
	if m.opt.AnnounceOK == nil {
		return ""
	}
	ok, why := m.opt.AnnounceOK()
	if ok {
		return ""
	}
	if why == "" {
		why = "the announced address is being corrected"
	}
	return oneLine(why)
}

// Detail is what the status page shows of this job.
type Detail struct {
	Verdicts
	UnansweredSeconds float64 `json:"unanswered_seconds"`
	Role              Role    `json:"role,omitempty"`
	Link              string  `json:"link,omitempty"` // of a replica: up or down
	Cluster           string  `json:"cluster,omitempty"`
	RunID             string  `json:"run_id,omitempty"`
}

// report judges and writes the verdicts to the Board.
func (m *Monitor) report() {
	o := m.observation()
	v := Judge(o, m.opt.Policy)
	m.mu.Lock()
	if o.Contact == Answered && !o.inTheDark() {
		m.obs.WasReady = v.Readiness.OK
	}
	runID, cause := m.mem.runID, m.mem.lastErr
	m.mu.Unlock()

	d := Detail{Verdicts: v, UnansweredSeconds: o.Silent.Seconds(), Role: o.Role, Cluster: o.ClusterState, RunID: runID}
	if o.Role == Replica {
		d.Link = "down"
		if o.LinkUp {
			d.Link = "up"
		}
	}
	m.rep.Detail(d)

	kind, worst := Readiness, v.Readiness
	if !v.Liveness.OK {
		kind, worst = Liveness, v.Liveness
	}
	starting := o.Contact == Refused && !o.WasUp && o.Silent < m.opt.Policy.DeadAfter
	switch answered := o.Contact == Answered && o.Trouble != ReasonAuth; {
	case o.Contact == Unasked:
	case worst.OK && worst.Reason == ReasonOK:
		m.rep.Success("ready: " + worst.Message)
	case worst.OK && answered:
		m.rep.Warn(boardReason(worst.Reason), "ready: "+worst.Message)
	case kind == Readiness && (answered || starting):
		m.rep.Warn(boardReason(worst.Reason), worst.Line(kind))
	default:
		m.rep.Failure(failure(o, errors.New(worst.Line(kind)), worst.Reason, cause))
	}
}

// inTheDark tells whether the answer says nothing that readiness could rest on.
func (o Observation) inTheDark() bool {
	switch o.Trouble {
	case ReasonAuth, ReasonNoPerm, ReasonMaxClients, ReasonBusy:
		return true
	}
	return false
}

// failure gives err the reason and the hint of what caused it.
func failure(o Observation, err error, r Reason, cause error) error {
	switch {
	case o.Contact == Silent:
		return status.WithHint(status.ReasonTimeout, "redis-server is hung, stopped or overloaded: see its log and SLOWLOG GET", err)
	case cause != nil:
		return status.WithHint(status.ReasonOf(cause), status.HintOf(cause), err)
	}
	return status.WithReason(boardReason(r), err)
}

// boardReason translates to the reasons of the Board.
func boardReason(r Reason) status.Reason {
	switch r {
	case ReasonRefused, ReasonAccept:
		return status.ReasonUnreachable
	case ReasonSilent:
		return status.ReasonTimeout
	case ReasonLoading, ReasonLoadingStuck, ReasonFirstSync:
		return status.ReasonLoading
	case ReasonBusy:
		return status.ReasonBusy
	case ReasonLinkDown, ReasonMasterDown:
		return status.ReasonMasterDown
	case ReasonCluster:
		return status.ReasonRedis
	case ReasonAnnounce:
		return status.ReasonAddress
	case ReasonMisconf:
		return status.ReasonMisconf
	case ReasonMaxClients:
		return status.ReasonMaxClients
	case ReasonAuth:
		return status.ReasonAuth
	case ReasonNoPerm:
		return status.ReasonNoPerm
	case ReasonUnable:
		return status.ReasonUnreachable
	}
	return status.ReasonInternal
}

// Reasons lists what this job may report, for status.Board.Register.
func Reasons() []status.Reason {
	return []status.Reason{
		status.ReasonUnreachable, status.ReasonTimeout, status.ReasonTLS, status.ReasonAuth, status.ReasonNoPerm,
		status.ReasonLoading, status.ReasonBusy, status.ReasonMasterDown, status.ReasonMisconf, status.ReasonMaxClients,
		status.ReasonRedis, status.ReasonProtocol, status.ReasonAddress, status.ReasonFile,
	}
}
