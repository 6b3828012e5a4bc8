package probe

import (
	"fmt"
	"time"
)

// Kind is one of Kubernetes' three probes.
type Kind string

// The probes.
const (
	Startup   Kind = "startup"
	Liveness  Kind = "liveness"
	Readiness Kind = "readiness"
)

// Kinds lists the probes in the order of a pod's life.
func Kinds() []Kind { return []Kind{Startup, Liveness, Readiness} }

// Reason says what decided a verdict. The set is closed.
type Reason string

// The reasons.
const (
	ReasonOK           Reason = "ok"
	ReasonWaiting      Reason = "waiting"       // the server has not been asked or has not been up yet
	ReasonRefused      Reason = "refused"       // nothing listens, or it hangs up
	ReasonSilent       Reason = "silent"        // the connection stands, no answer comes
	ReasonLoading      Reason = "loading"       // LOADING, and it moves
	ReasonLoadingStuck Reason = "loading_stuck" // LOADING, and it does not move
	ReasonBusy         Reason = "busy"          // a script or function runs too long
	ReasonFirstSync    Reason = "first_sync"    // a replica that has no data yet
	ReasonLinkDown     Reason = "link_down"     // a replica without its master
	ReasonMasterDown   Reason = "masterdown"    // the same, and it refuses reads
	ReasonCluster      Reason = "cluster_fail"  // cluster_state:fail after it was ok
	ReasonAnnounce     Reason = "announce"      // clients would be sent to a wrong address
	ReasonMisconf      Reason = "misconf"       // writes are refused since a save failed
	ReasonAccept       Reason = "accept"        // open connections work, new ones do not
	ReasonMaxClients   Reason = "maxclients"    // new connections are one too many
	ReasonAuth         Reason = "auth"          // the sidecar's password is wrong
	ReasonNoPerm       Reason = "noperm"        // the sidecar's user may not ask
	ReasonUnable       Reason = "unable"        // the sidecar cannot ask: TLS, name, files
	ReasonStale        Reason = "stale"         // the sidecar itself stood still
)

// Verdict is the answer to one probe.
type Verdict struct {
	OK      bool   `json:"ok"`
	Reason  Reason `json:"reason"`
	Message string `json:"message"` // one line: why
}

// Verdicts are the answers to all three probes from the same observation.
type Verdicts struct {
	Startup   Verdict `json:"startup"`
	Liveness  Verdict `json:"liveness"`
	Readiness Verdict `json:"readiness"`
}

// Of returns the verdict of one probe.
func (v Verdicts) Of(k Kind) Verdict {
	switch k {
	case Startup:
		return v.Startup
	case Liveness:
		return v.Liveness
	default:
		return v.Readiness
	}
}

// Line returns the verdict as the one line that the endpoints answer:
// "ok: …", "not started: …", "not alive: …" or "not ready: …".
func (v Verdict) Line(k Kind) string {
	if v.OK {
		return "ok: " + v.Message
	}
	return notWords(k) + v.Message
}

func notWords(k Kind) string {
	switch k {
	case Startup:
		return "not started: "
	case Liveness:
		return "not alive: "
	default:
		return "not ready: "
	}
}

// Policy holds the limits of the verdict table. Use DefaultPolicy as the start.
type Policy struct {
	DeadAfter        time.Duration // liveness: this long without any answer is death
	LoadingStuck     time.Duration // liveness: this long LOADING without a byte is death
	MaxMisses        int           // readiness: so many unanswered seconds (looks) in a row
	BusyGrace        time.Duration // readiness: BUSY may last this long
	MaxLag           time.Duration // readiness of a replica: its link may be down this long
	AllowStale       bool          // readiness of a replica: however long the link is down
	UnreadyOnMisconf bool          // readiness of a master: not while writes are refused with MISCONF
}

// DefaultPolicy returns the limits used when nothing else is set.
func DefaultPolicy() Policy {
	return Policy{
		DeadAfter:    60 * time.Second,
		LoadingStuck: 300 * time.Second,
		MaxMisses:    2,
		BusyGrace:    2 * time.Second,
		MaxLag:       10 * time.Second,
	}
}

// Judge is the verdict table. It knows nothing but its arguments.
func Judge(o Observation, p Policy) Verdicts {
	return Verdicts{
		Startup:   judgeStartup(o, p),
		Liveness:  judgeLiveness(o, p),
		Readiness: judgeReadiness(o, p),
	}
}

func yes(r Reason, format string, args ...any) Verdict {
	return Verdict{OK: true, Reason: r, Message: fmt.Sprintf(format, args...)}
}

func no(r Reason, format string, args ...any) Verdict {
	return Verdict{Reason: r, Message: fmt.Sprintf(format, args...)}
}

// judgeStartup says whether this server process has been through its start. It
// fails open where the sidecar cannot ask: liveness, which begins then, does too.
func judgeStartup(o Observation, p Policy) Verdict {
	switch {
	case o.Started:
		return yes(ReasonOK, "the server has answered and was not LOADING")
	case o.Stale > 0:
		return yes(ReasonStale, "%s", staleText(o))
	case o.Contact == Unable:
		return yes(ReasonUnable, "cannot ask the server: %s", o.Error)
	case o.Contact == Refused:
		return no(ReasonRefused, "%s", o.Error)
	case o.Contact == Unasked:
		return no(ReasonWaiting, "the server was not asked yet")
	case o.Loading && stuck(o, p):
		return no(ReasonLoadingStuck, "%s", stuckText(o))
	case o.Loading:
		return no(ReasonLoading, "%s", loadingText(o))
	}
	return no(ReasonSilent, "%s", silentText(o))
}

// judgeLiveness says no only where a restart helps: the process answers nothing
// for long, or its loading stands still.
func judgeLiveness(o Observation, p Policy) Verdict {
	// Before the first answer nobody knows whether it is loading, and a server
	// that loads from a slow disk answers seldom.
	limit := p.DeadAfter
	if o.Loading || !o.WasUp {
		limit = max(limit, p.LoadingStuck)
	}
	switch {
	case o.Stale > 0:
		return yes(ReasonStale, "%s", staleText(o))
	case o.Contact == Unasked:
		return yes(ReasonWaiting, "the server was not asked yet")
	case o.Contact == Unable:
		return yes(ReasonUnable, "cannot ask the server, which is no proof of death: %s", o.Error)
	case o.Contact == Refused && o.Once:
		return no(ReasonRefused, "%s", o.Error)
	case o.Contact == Refused && !o.WasUp:
		return yes(ReasonWaiting, "the server has not been up yet: %s", o.Error)
	case o.Contact == Refused && o.Silent >= p.DeadAfter:
		return no(ReasonRefused, "no connection for %s: %s", seconds(o.Silent), o.Error)
	case o.Contact == Refused:
		return yes(ReasonRefused, "no connection for %s, death is declared after %s", seconds(o.Silent), seconds(p.DeadAfter))
	case o.Contact == Silent && o.Once:
		return yes(ReasonSilent, "no answer, but one look cannot tell a hung server from a busy one")
	case o.Contact == Silent && o.Silent >= limit:
		return no(ReasonSilent, "%s", silentText(o))
	case o.Contact == Silent:
		return yes(ReasonSilent, "no answer for %s, death is declared after %s", seconds(o.Silent), seconds(limit))
	case o.Loading && stuck(o, p):
		return no(ReasonLoadingStuck, "%s", stuckText(o))
	case o.Loading:
		return yes(ReasonLoading, "%s", loadingText(o))
	case o.Trouble != "":
		return yes(o.Trouble, "it answers: %s", o.Error)
	}
	return yes(ReasonOK, "it answers")
}

// judgeReadiness says whether clients should be sent here now.
func judgeReadiness(o Observation, p Policy) Verdict {
	v := readiness(o, p)
	if o.Stale > 0 {
		v.Message += "; " + staleText(o)
	}
	return v
}

func readiness(o Observation, p Policy) Verdict {
	switch o.Contact {
	case Unasked:
		return no(ReasonWaiting, "the server was not asked yet")
	case Refused:
		return no(ReasonRefused, "%s", o.Error)
	case Unable:
		return keep(o, ReasonUnable, "cannot ask the server: "+o.Error)
	case Silent:
		if o.Misses >= p.MaxMisses || !o.Started {
			return no(ReasonSilent, "%s", silentText(o))
		}
	}
	if o.Loading {
		if stuck(o, p) {
			return no(ReasonLoadingStuck, "%s", stuckText(o))
		}
		return no(ReasonLoading, "%s", loadingText(o))
	}
	switch o.Trouble {
	case ReasonAuth, ReasonNoPerm, ReasonMaxClients:
		return keep(o, o.Trouble, o.Error)
	case ReasonBusy:
		if o.Busy >= p.BusyGrace {
			return no(ReasonBusy, "BUSY for %s: a script or function runs too long", seconds(o.Busy))
		}
		return keep(o, ReasonBusy, fmt.Sprintf("BUSY for %s", seconds(o.Busy)))
	}
	if o.AcceptMisses >= p.MaxMisses {
		return no(ReasonAccept, "the open connection works, new ones do not: %s", o.AcceptError)
	}
	if o.Announce != "" {
		return no(ReasonAnnounce, "%s", o.Announce)
	}
	if o.Role == Replica {
		if v := replicaReadiness(o, p); !v.OK {
			return v
		}
	}
	if o.ClusterEnabled && o.ClusterState == "fail" && o.ClusterWasOK {
		return no(ReasonCluster, "cluster_state is fail, it was ok before")
	}
	if o.Trouble == ReasonMisconf && p.UnreadyOnMisconf && o.Role != Replica {
		return no(ReasonMisconf, "MISCONF: the last save failed, writes are refused")
	}
	return readyVerdict(o, p)
}

func replicaReadiness(o Observation, p Policy) Verdict {
	switch {
	case o.Trouble == ReasonMasterDown:
		return no(ReasonMasterDown, "MASTERDOWN: the link to the master is down and replica-serve-stale-data is no")
	case !o.LinkUp && !o.HasData && o.Syncing:
		return no(ReasonFirstSync, "%s", syncText(o))
	case !o.LinkUp && !o.HasData:
		return no(ReasonFirstSync, "waiting for the first copy of the master's data")
	case !o.LinkUp && o.LinkDown > p.MaxLag && !p.AllowStale:
		return no(ReasonLinkDown, "the link to the master is down for %s, more than %s", seconds(o.LinkDown), seconds(p.MaxLag))
	case o.LinkUp && o.LinkMute > muteLimit(p) && !p.AllowStale:
		return no(ReasonLinkDown, "the master is silent for %s, more than %s", seconds(o.LinkMute), seconds(muteLimit(p)))
	}
	return Verdict{OK: true}
}

// muteLimit is how long a master may say nothing over a link that is up. An idle
// one speaks every repl-ping-replica-period, 10 s by default.
func muteLimit(p Policy) time.Duration { return max(p.MaxLag, 30*time.Second) }

// readyVerdict words a yes, with what a person should know nevertheless.
func readyVerdict(o Observation, p Policy) Verdict {
	switch {
	case o.Trouble == ReasonMisconf:
		return yes(ReasonMisconf, "%s; MISCONF: the last save failed, writes are refused", roleText(o))
	case o.AcceptFull:
		return yes(ReasonMaxClients, "%s; new connections are refused: %s", roleText(o), o.AcceptError)
	case o.Role == Replica && !o.LinkUp && p.AllowStale:
		return yes(ReasonLinkDown, "replica, serving stale data: the link to the master is down for %s", seconds(o.LinkDown))
	case o.Role == Replica && !o.LinkUp:
		return yes(ReasonLinkDown, "replica, the link to the master is down for %s, allowed are %s", seconds(o.LinkDown), seconds(p.MaxLag))
	case o.ClusterEnabled && o.ClusterState == "fail":
		return yes(ReasonCluster, "%s; the cluster is not formed yet", roleText(o))
	case o.Role == "":
		return yes(ReasonNoPerm, "it answers PING; INFO is not permitted, so a replica's lag is not known")
	}
	return yes(ReasonOK, "%s", roleText(o))
}

// keep repeats the last verdict that rested on facts: trouble of the sidecar's
// own must not take a pod out of its Service. A pod that was never ready stays so.
func keep(o Observation, r Reason, why string) Verdict {
	if o.WasReady {
		return yes(r, "as before; %s", why)
	}
	return no(r, "%s", why)
}

func stuck(o Observation, p Policy) bool { return o.LoadingStalled >= p.LoadingStuck }
