package announce

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Mode says which announced address is kept true.
type Mode string

// The modes.
const (
	Auto        Mode = "auto"        // cluster-announce-ip in a cluster, else replica-announce-ip
	Replication Mode = "replication" // replica-announce-ip
	Cluster     Mode = "cluster"     // cluster-announce-ip
	Off         Mode = "off"         // none
)

// Modes lists every Mode.
func Modes() []Mode { return []Mode{Auto, Replication, Cluster, Off} }

// The two parameters.
const (
	replicaParam = "replica-announce-ip"
	clusterParam = "cluster-announce-ip"
)

const (
	callTimeout   = 5 * time.Second        // of one call to the server
	refusedRetry  = time.Minute            // after NOPERM or an unknown command
	startPoll     = time.Second            // while the server is not there
	relinkPoll    = 200 * time.Millisecond // while a replica's link comes back
	relinkTimeout = 10 * time.Second       // after which a link that did not is a failure
	relinkRest    = time.Minute            // after a cut: two that fight over the address must not keep a link down
	repairWindow  = 30 * time.Second       // for which a wrong address makes the pod unready
)

// Server is what the job says to redis-server. An error reply is an error whose
// status.Reason tells what it is.
type Server interface {
	Do(ctx context.Context, args ...string) (any, error)
	Pipeline(ctx context.Context, cmds ...[]string) ([]any, error)
}

// Options configure a Job.
type Options struct {
	Mode Mode // the default is Auto
	// Address is the own address as the user set it; "" means to find it out.
	// Only here may it be a loopback or link-local address, or a host name.
	Address string
	// PodIP is what the downward API says: status.podIP, or status.podIPs with
	// commas. "" means that it is not there.
	PodIP string
	// Interval is the time between two comparisons. The default is 5 s.
	Interval time.Duration
}

// Job keeps the announced address true. Its methods may be called from any
// goroutine.
type Job struct {
	server Server
	opt    Options
	find   finder
	rep    *status.Reporter

	relink  relink    // only used by Run
	lastCut time.Time // of a link; likewise

	mu            sync.Mutex
	own           Own
	announced     map[string]string
	mismatch      string // what is wrong and being corrected; "" when nothing is
	mismatchSince time.Time
	helpless      bool // the server does not let us correct it
	corrections   uint64
	last          *Correction
	waiting       string // what the relink waits for
}

// relink is what is left to do until a replica's master knows the new address.
type relink struct {
	pending  bool      // the link was made before the address was set
	killedAt time.Time // when it was cut; zero before
}

// Correction is one change of an announced address.
type Correction struct {
	At        time.Time `json:"at"`
	Parameter string    `json:"parameter"`
	From      string    `json:"from"`
	To        string    `json:"to"`
}

// Detail is what the status page shows of this job.
type Detail struct {
	Mode           Mode              `json:"mode"`
	Address        string            `json:"address,omitempty"`
	Source         Source            `json:"source,omitempty"`
	Announced      map[string]string `json:"announced,omitempty"`
	Waiting        string            `json:"waiting,omitempty"`
	Corrections    uint64            `json:"corrections"`
	LastCorrection *Correction       `json:"last_correction,omitempty"`
}

// New returns a Job, which starts with Run.
func New(s Server, o Options, rep *status.Reporter) *Job {
	if o.Mode == "" {
		o.Mode = Auto
	}
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	return &Job{
		server: s, opt: o, rep: rep,
		find: finder{setting: o.Address, pod: o.PodIP, interfaces: interfaceAddrs, route: routeAddr},
	}
}

// Reasons lists what this job may report, for status.Board.Register.
func Reasons() []status.Reason {
	return []status.Reason{
		status.ReasonAddress, status.ReasonRejected, status.ReasonNoPerm, status.ReasonUnknownCmd, status.ReasonMasterDown,
		status.ReasonUnreachable, status.ReasonTimeout, status.ReasonTLS, status.ReasonAuth, status.ReasonLoading,
		status.ReasonBusy, status.ReasonMaxClients, status.ReasonRedis, status.ReasonProtocol, status.ReasonFile,
	}
}

// Run compares and corrects until ctx ends. Its error is always nil.
func (j *Job) Run(ctx context.Context) error {
	if j.opt.Mode == Off {
		j.rep.Disable("announce.mode is off")
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		start := time.Now()
		message, err := j.tick(ctx)
		if ctx.Err() != nil {
			return nil
		}
		j.rep.Ran(time.Since(start))
		next := j.pause(err)
		j.rep.NextRun(time.Now().Add(next))
		j.rep.Detail(j.detail())
		if err != nil {
			j.rep.Failure(err)
		} else {
			j.rep.Success(message)
		}
		timer.Reset(next)
	}
}

// pause returns how long to wait after a tick that ended with err.
func (j *Job) pause(err error) time.Duration {
	switch {
	case isRefused(err):
		return max(j.opt.Interval, refusedRetry)
	case !j.relink.killedAt.IsZero() && time.Since(j.relink.killedAt) <= relinkTimeout:
		return min(j.opt.Interval, relinkPoll)
	case status.ReasonOf(err) == status.ReasonUnreachable:
		// A server that is about to start must not be ready with a stale address.
		return min(j.opt.Interval, startPoll)
	}
	return j.opt.Interval
}

// tick compares once, corrects, and says what holds now.
func (j *Job) tick(ctx context.Context) (string, error) {
	st, err := j.look(ctx)
	if err != nil {
		j.settle("")
		return "", err
	}
	if st.sentinel {
		j.rest()
		return sentinelMessage, nil
	}
	param := replicaParam
	if j.opt.Mode == Cluster || j.opt.Mode == Auto && st.cluster {
		param = clusterParam
	}
	own, err := j.find.own(st.prefersV6(param))
	j.mu.Lock()
	j.own = own
	j.announced = st.announced
	j.mu.Unlock()
	if err != nil {
		j.settle("")
		return "", err
	}
	if param == clusterParam && !isIP(own.Address) {
		j.settle("")
		return "", status.WithHint(status.ReasonAddress, "set announce.address to an IP address; a name belongs in cluster-announce-hostname",
			fmt.Errorf("announce.address %s is a name, and the cluster bus knows only IP addresses", own.Address))
	}

	present, known := st.announced[param]
	if !known {
		return "", status.WithReason(status.ReasonUnknownCmd, fmt.Errorf("CONFIG GET %s: the server does not have this parameter", param))
	}
	message := fmt.Sprintf("%s is %s (%s)", param, own.Address, own.Source)
	switch {
	case canonical(present) == own.Address:
	case j.leaveName(param, present, own):
		message = fmt.Sprintf("%s is the name %s and stays so; own address is %s (%s)", param, present, own.Address, own.Source)
	default:
		// Before the answer, which may be lost.
		j.relink = relink{pending: param == replicaParam && st.replica}
		if err := j.correct(ctx, param, present, own.Address); err != nil {
			return "", err
		}
	}
	j.settle("")
	if param == clusterParam && !st.cluster {
		message += "; it has no effect, this server is not a cluster node"
	}
	return j.remakeLink(ctx, st, message)
}

// sentinelMessage is what holds beside a Sentinel.
const sentinelMessage = "a Sentinel: nothing to announce here"

// rest forgets what was learnt of a redis-server: a Sentinel is there now.
func (j *Job) rest() {
	j.settle("")
	j.relink = relink{}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.own, j.announced, j.waiting = Own{}, nil, ""
}

// leaveName tells whether a host name that somebody else set is left alone: names
// stay right when addresses change. On the cluster bus a name is never right.
func (j *Job) leaveName(param, present string, own Own) bool {
	return param == replicaParam && j.opt.Mode == Auto && own.Source != SourceSetting && present != "" && !isIP(present)
}

// correct sets a parameter and reads it back.
func (j *Job) correct(ctx context.Context, param, from, to string) error {
	j.settle(fmt.Sprintf("%s is %q, own address is %s: being corrected", param, from, to))
	if err := j.set(ctx, param, to); err != nil {
		if isRefused(err) {
			j.mu.Lock()
			j.helpless = true
			j.mu.Unlock()
		}
		return fmt.Errorf("correct %s from %q to %s: %w", param, from, to, err)
	}
	c := &Correction{At: time.Now(), Parameter: param, From: from, To: to}
	j.mu.Lock()
	j.corrections++
	j.last = c
	j.announced[param] = to
	j.mu.Unlock()
	j.rep.Logger().Info("announced address corrected", "parameter", param, "from", from, "to", to)
	return nil
}

func (j *Job) set(ctx context.Context, param, value string) error {
	if _, err := j.do(ctx, "CONFIG", "SET", param, value); err != nil {
		return err
	}
	v, err := j.do(ctx, "CONFIG", "GET", param)
	if err != nil {
		return err
	}
	if got := pairs(v)[param]; got != value {
		return status.WithReason(status.ReasonRejected, fmt.Errorf("the server took it and still says %q", got))
	}
	return nil
}

// remakeLink sees to it that a replica's master learns the new address. Redis
// tells it only in the handshake, and CONFIG SET makes no new one. A link that
// is cut comes back at once, as a rule with a partial resync.
func (j *Job) remakeLink(ctx context.Context, st state, message string) (string, error) {
	if !j.relink.pending {
		return message, nil
	}
	link, err := j.link(ctx, st)
	if err != nil {
		return "", err
	}
	waiting := ""
	defer func() {
		j.mu.Lock()
		j.waiting = waiting
		j.mu.Unlock()
	}()
	cut := !j.relink.killedAt.IsZero()
	switch {
	case link == linkNone, link == linkUp && cut:
		j.relink = relink{}
		return message, nil
	case link == linkNotBegun && !cut:
		// The handshake is still to come and will carry the new address.
		j.relink = relink{}
		return message, nil
	case link == linkUp && !j.lastCut.IsZero() && time.Since(j.lastCut) < relinkRest:
		waiting = "the link to the master was re-made less than a minute ago, and is not cut again before"
		return message + "; " + waiting, nil
	case link == linkUp:
		if _, err := j.do(ctx, "CLIENT", "KILL", "TYPE", "master"); err != nil {
			return "", fmt.Errorf("re-make the link to the master, so that it learns the new address: %w", err)
		}
		j.relink.killedAt = time.Now()
		j.lastCut = j.relink.killedAt
		waiting = "the link to the master is being re-made"
		return message + "; " + waiting, nil
	case cut && time.Since(j.relink.killedAt) > relinkTimeout:
		waiting = "the link to the master has not come back"
		return "", status.WithHint(status.ReasonMasterDown, "see the log of redis-server for why it cannot reach its master",
			fmt.Errorf("%s for %s after it was cut to make the new address known", waiting, time.Since(j.relink.killedAt).Round(time.Second)))
	case cut:
		waiting = "the link to the master is being re-made"
	default:
		waiting = "the master learns the new address when the copy from it is complete"
	}
	return message + "; " + waiting, nil
}

// settle records what is wrong at the moment; "" means nothing that we know of.
func (j *Job) settle(mismatch string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if mismatch != "" && j.mismatch == "" {
		j.mismatchSince = time.Now()
	}
	j.mismatch, j.helpless = mismatch, false
}

// OK says whether clients can be sent to the announced address, and if not, why.
// It is no for at most half a minute, and only while a wrong address is being
// corrected: what cannot be corrected from here does not get better without
// traffic.
func (j *Job) OK() (bool, string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mismatch == "" || j.helpless || time.Since(j.mismatchSince) > repairWindow {
		return true, ""
	}
	return false, j.mismatch
}

func (j *Job) detail() Detail {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Detail{
		Mode: j.opt.Mode, Address: j.own.Address, Source: j.own.Source, Announced: maps.Clone(j.announced),
		Waiting: j.waiting, Corrections: j.corrections, LastCorrection: j.last,
	}
}

func (j *Job) do(ctx context.Context, args ...string) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return j.server.Do(ctx, args...)
}

// isRefused tells whether the server does not let this user do it, which will
// not change by itself.
func isRefused(err error) bool {
	switch status.ReasonOf(err) {
	case status.ReasonNoPerm, status.ReasonUnknownCmd:
		return err != nil
	}
	return false
}

// state is what the server says of itself.
type state struct {
	sentinel   bool              // then nothing else is known
	announced  map[string]string // the parameters of the two it has
	cluster    bool
	replica    bool
	masterHost string
	linkUp     bool
}

// prefersV6 tells which family of addresses the others use, as far as can be seen.
func (st state) prefersV6(param string) bool {
	for _, s := range []string{st.masterHost, st.announced[param]} {
		if a, err := netip.ParseAddr(s); err == nil && usable(a.Unmap()) {
			return a.Unmap().Is6()
		}
	}
	return false
}

// look reads the server's state. INFO comes first: to a Sentinel CONFIG is an
// unknown command, which would count in its statistics. One pattern fetches both
// parameters: several need Redis 7.0.
func (j *Job) look(ctx context.Context) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	replies, err := j.server.Pipeline(ctx, []string{"INFO", "replication"}, []string{"INFO", "cluster"}, []string{"INFO", "server"})
	if err != nil {
		return state{}, err
	}
	var in [3]info.Info
	for i, r := range replies {
		switch r := r.(type) {
		case string:
			in[i] = info.Parse(r)
		case error:
			return state{}, r
		default:
			return state{}, status.WithReason(status.ReasonProtocol, errors.New("INFO: the reply is not a text"))
		}
	}
	replication, cluster, server := in[0], in[1], in[2]
	if server.Mode() == "sentinel" {
		return state{sentinel: true}, nil
	}
	config, err := j.server.Do(ctx, "CONFIG", "GET", "*-announce-ip")
	if err != nil {
		return state{}, err
	}
	st := state{announced: map[string]string{}}
	for name, value := range pairs(config) {
		if name == replicaParam || name == clusterParam {
			st.announced[name] = value
		}
	}
	st.replica = replication.Get("role") == "slave"
	st.masterHost = replication.Get("master_host")
	st.linkUp = replication.Get("master_link_status") == "up"
	st.cluster = cluster.Get("cluster_enabled") == "1"
	return st, nil
}

// pairs reads a reply of names and values; it is empty when it is not one.
func pairs(v any) map[string]string {
	list, _ := v.([]any)
	out := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		name, ok1 := list[i].(string)
		value, ok2 := list[i+1].(string)
		if ok1 && ok2 {
			out[name] = value
		}
	}
	return out
}

// linkState is how far a replica's link to its master is.
type linkState int

const (
	linkNone     linkState = iota // it is no replica
	linkNotBegun                  // not connected: the handshake is still to come
	linkMaking                    // in the handshake or in a full copy
	linkUp
)

// link asks ROLE, which tells a handshake that is to come from one that is over.
// A user who may not, gets along with INFO.
func (j *Job) link(ctx context.Context, st state) (linkState, error) {
	v, err := j.do(ctx, "ROLE")
	switch {
	case isRefused(err) && !st.replica:
		return linkNone, nil
	case isRefused(err) && st.linkUp:
		return linkUp, nil
	case isRefused(err):
		return linkMaking, nil
	case err != nil:
		return 0, err
	}
	list, _ := v.([]any)
	if len(list) < 4 || list[0] != "slave" {
		return linkNone, nil
	}
	switch list[3] {
	case "connected":
		return linkUp, nil
	case "connect", "connecting":
		return linkNotBegun, nil
	}
	return linkMaking, nil
}
