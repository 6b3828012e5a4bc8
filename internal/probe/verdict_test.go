package probe

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// healthy is a master that answers.
func healthy() Observation {
	return Observation{Contact: Answered, Role: Master, HasData: true, WasUp: true, Started: true, WasReady: true}
}

// replica is a replica in touch with its master.
func replica() Observation {
	o := healthy()
	o.Role, o.LinkUp = Replica, true
	return o
}

func with(o Observation, changes ...func(*Observation)) Observation {
	for _, change := range changes {
		change(&o)
	}
	return o
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const (
		started = "ok: the server has answered and was not LOADING"
		alive   = "ok: it answers"
	)
	loading := func(o *Observation) {
		o.Loading, o.LoadedBytes, o.LoadingBytes = true, 1288490189, 3006477107
	}
	silent := func(d time.Duration, misses int) func(*Observation) {
		return func(o *Observation) { o.Contact, o.Silent, o.Misses = Silent, d, misses }
	}
	refused := func(d time.Duration) func(*Observation) {
		return func(o *Observation) {
			*o = Observation{Contact: Refused, Silent: d, Misses: 3, WasUp: o.WasUp, Once: o.Once,
				Error: "PING: connect: connection refused"}
		}
	}
	trouble := func(r Reason, text string) func(*Observation) {
		return func(o *Observation) { o.Trouble, o.Error = r, text }
	}
	neverReady := func(o *Observation) { o.WasReady = false }
	busy := func(d time.Duration) func(*Observation) {
		return func(o *Observation) {
			o.Trouble, o.Busy, o.Error = ReasonBusy, d, "PING: BUSY Redis is busy running a script."
		}
	}
	fullSync := func(o *Observation) {
		o.LinkUp, o.HasData, o.Syncing, o.SyncedByte, o.SyncBytes = false, false, true, 10<<20, 40<<20
	}
	linkDown := func(d time.Duration) func(*Observation) {
		return func(o *Observation) { o.LinkUp, o.LinkDown = false, d }
	}
	cluster := func(state string, wasOK bool) func(*Observation) {
		return func(o *Observation) { o.ClusterEnabled, o.ClusterState, o.ClusterWasOK = true, state, wasOK }
	}
	unable := func(o *Observation) {
		o.Contact, o.Error = Unable, "PING: lookup redis: no such host"
	}
	stale := func(o *Observation) { o.Stale = 12 * time.Second }
	allowStale := func(p *Policy) { p.AllowStale = true }

	tests := map[string]struct {
		o      Observation
		policy func(*Policy)
		want   [3]string // startup, liveness, readiness
	}{
		"nothing known": {
			o: Observation{},
			want: [3]string{
				"not started: the server was not asked yet",
				"ok: the server was not asked yet",
				"not ready: the server was not asked yet",
			},
		},
		"master":  {o: healthy(), want: [3]string{started, alive, "ok: master"}},
		"replica": {o: replica(), want: [3]string{started, alive, "ok: replica, in touch with its master"}},
		"first start, connection refused": {
			o: with(Observation{}, refused(400*time.Second)),
			want: [3]string{
				"not started: PING: connect: connection refused",
				"ok: the server has not been up yet: PING: connect: connection refused",
				"not ready: PING: connect: connection refused",
			},
		},
		"was up, refused for less than the limit": {
			o: with(healthy(), refused(59*time.Second)),
			want: [3]string{
				"not started: PING: connect: connection refused",
				"ok: no connection for 59 s, death is declared after 60 s",
				"not ready: PING: connect: connection refused",
			},
		},
		"was up, refused for the limit": {
			o: with(healthy(), refused(60*time.Second)),
			want: [3]string{
				"not started: PING: connect: connection refused",
				"not alive: no connection for 60 s: PING: connect: connection refused",
				"not ready: PING: connect: connection refused",
			},
		},
		"loading at the start": {
			o: with(Observation{Contact: Answered, Role: Master, WasUp: true}, loading),
			want: [3]string{
				"not started: LOADING 42 %, 1.2 GiB of 2.8 GiB",
				"ok: LOADING 42 %, 1.2 GiB of 2.8 GiB",
				"not ready: LOADING 42 %, 1.2 GiB of 2.8 GiB",
			},
		},
		"loading, with an estimate": {
			o: with(Observation{Contact: Answered, WasUp: true}, loading, func(o *Observation) { o.LoadingETA = 40 * time.Second }),
			want: [3]string{
				"not started: LOADING 42 %, 1.2 GiB of 2.8 GiB, about 40 s left",
				"ok: LOADING 42 %, 1.2 GiB of 2.8 GiB, about 40 s left",
				"not ready: LOADING 42 %, 1.2 GiB of 2.8 GiB, about 40 s left",
			},
		},
		"loading, INFO not permitted": {
			o: Observation{Contact: Answered, WasUp: true, Loading: true},
			want: [3]string{
				"not started: LOADING", "ok: LOADING", "not ready: LOADING",
			},
		},
		"loading what the master sent": {
			o: with(replica(), loading, func(o *Observation) { o.LoadingBytes = 0 }),
			want: [3]string{
				started, "ok: LOADING 1.2 GiB", "not ready: LOADING 1.2 GiB",
			},
		},
		"loading, slow but within the limit": {
			o: with(Observation{Contact: Answered, WasUp: true}, loading, func(o *Observation) { o.LoadingStalled = 299 * time.Second }),
			want: [3]string{
				"not started: LOADING 42 %, 1.2 GiB of 2.8 GiB",
				"ok: LOADING 42 %, 1.2 GiB of 2.8 GiB",
				"not ready: LOADING 42 %, 1.2 GiB of 2.8 GiB",
			},
		},
		"loading without progress": {
			o: with(Observation{Contact: Answered, WasUp: true}, loading, func(o *Observation) { o.LoadingStalled = 300 * time.Second }),
			want: [3]string{
				"not started: LOADING 42 %, 1.2 GiB of 2.8 GiB, without progress for 300 s",
				"not alive: LOADING 42 %, 1.2 GiB of 2.8 GiB, without progress for 300 s",
				"not ready: LOADING 42 %, 1.2 GiB of 2.8 GiB, without progress for 300 s",
			},
		},
		"loading, and too occupied to answer": {
			o: with(Observation{WasUp: true}, loading, silent(299*time.Second, 299)),
			want: [3]string{
				"not started: LOADING 42 %, 1.2 GiB of 2.8 GiB",
				"ok: no answer for 299 s, death is declared after 300 s",
				"not ready: no answer for 299 s",
			},
		},
		"loading, no answer for the longer limit": {
			o: with(Observation{WasUp: true}, loading, silent(300*time.Second, 300)),
			want: [3]string{
				"not started: LOADING 42 %, 1.2 GiB of 2.8 GiB",
				"not alive: no answer for 300 s",
				"not ready: no answer for 300 s",
			},
		},
		"never an answer, it may be loading": {
			o: with(Observation{}, silent(299*time.Second, 299)),
			want: [3]string{
				"not started: no answer for 299 s",
				"ok: no answer for 299 s, death is declared after 300 s",
				"not ready: no answer for 299 s",
			},
		},
		"never an answer for the longer limit": {
			o: with(Observation{}, silent(300*time.Second, 300)),
			want: [3]string{
				"not started: no answer for 300 s",
				"not alive: no answer for 300 s",
				"not ready: no answer for 300 s",
			},
		},
		"one miss": {
			o:    with(healthy(), silent(time.Second, 1)),
			want: [3]string{started, "ok: no answer for 1 s, death is declared after 60 s", "ok: master"},
		},
		"two misses": {
			o:    with(healthy(), silent(2*time.Second, 2)),
			want: [3]string{started, "ok: no answer for 2 s, death is declared after 60 s", "not ready: no answer for 2 s"},
		},
		"no answer for nearly the limit": {
			o:    with(healthy(), silent(59*time.Second, 59)),
			want: [3]string{started, "ok: no answer for 59 s, death is declared after 60 s", "not ready: no answer for 59 s"},
		},
		"no answer for the limit": {
			o:    with(healthy(), silent(60*time.Second, 60)),
			want: [3]string{started, "not alive: no answer for 60 s", "not ready: no answer for 60 s"},
		},
		"BUSY within grace": {
			o: with(healthy(), busy(time.Second)),
			want: [3]string{started, "ok: it answers: PING: BUSY Redis is busy running a script.",
				"ok: as before; BUSY for 1 s"},
		},
		"BUSY after grace": {
			o: with(healthy(), busy(7*time.Second)),
			want: [3]string{started, "ok: it answers: PING: BUSY Redis is busy running a script.",
				"not ready: BUSY for 7 s: a script or function runs too long"},
		},
		"NOAUTH, was ready": {
			o: with(healthy(), trouble(ReasonAuth, "PING: NOAUTH Authentication required.")),
			want: [3]string{started, "ok: it answers: PING: NOAUTH Authentication required.",
				"ok: as before; PING: NOAUTH Authentication required."},
		},
		"NOAUTH, was never ready": {
			o: with(healthy(), neverReady, trouble(ReasonAuth, "PING: NOAUTH Authentication required.")),
			want: [3]string{started, "ok: it answers: PING: NOAUTH Authentication required.",
				"not ready: PING: NOAUTH Authentication required."},
		},
		"NOPERM for everything": {
			o: with(healthy(), trouble(ReasonNoPerm, "PING: NOPERM this user has no permissions")),
			want: [3]string{started, "ok: it answers: PING: NOPERM this user has no permissions",
				"ok: as before; PING: NOPERM this user has no permissions"},
		},
		"NOPERM for INFO only": {
			o: with(healthy(), func(o *Observation) { o.Role = "" }),
			want: [3]string{started, alive,
				"ok: it answers PING; INFO is not permitted, so a replica's lag is not known"},
		},
		"Sentinel": {
			o:    with(healthy(), func(o *Observation) { o.Role = Sentinel }),
			want: [3]string{started, alive, "ok: sentinel"},
		},
		"maxclients, the kept connection is lost": {
			o: with(healthy(), trouble(ReasonMaxClients, "PING: ERR max number of clients reached")),
			want: [3]string{started, "ok: it answers: PING: ERR max number of clients reached",
				"ok: as before; PING: ERR max number of clients reached"},
		},
		"maxclients, seen by a new connection": {
			o: with(healthy(), func(o *Observation) { o.AcceptFull, o.AcceptError = true, "PING: ERR max number of clients reached" }),
			want: [3]string{started, alive,
				"ok: master; new connections are refused: PING: ERR max number of clients reached"},
		},
		"new connections fail once": {
			o:    with(healthy(), func(o *Observation) { o.AcceptMisses, o.AcceptError = 1, "PING: i/o timeout" }),
			want: [3]string{started, alive, "ok: master"},
		},
		"new connections fail": {
			o: with(healthy(), func(o *Observation) { o.AcceptMisses, o.AcceptError = 2, "PING: i/o timeout" }),
			want: [3]string{started, alive,
				"not ready: the open connection works, new ones do not: PING: i/o timeout"},
		},
		"MISCONF": {
			o: with(healthy(), trouble(ReasonMisconf, "PING: MISCONF Redis is configured to save RDB snapshots")),
			want: [3]string{started, "ok: it answers: PING: MISCONF Redis is configured to save RDB snapshots",
				"ok: master; MISCONF: the last save failed, writes are refused"},
		},
		"MISCONF, by choice not ready": {
			o:      with(healthy(), trouble(ReasonMisconf, "PING: MISCONF Redis is configured to save RDB snapshots")),
			policy: func(p *Policy) { p.UnreadyOnMisconf = true },
			want: [3]string{started, "ok: it answers: PING: MISCONF Redis is configured to save RDB snapshots",
				"not ready: MISCONF: the last save failed, writes are refused"},
		},
		"MISCONF on a replica never matters": {
			o:      with(replica(), trouble(ReasonMisconf, "PING: MISCONF Redis is configured to save RDB snapshots")),
			policy: func(p *Policy) { p.UnreadyOnMisconf = true },
			want: [3]string{started, "ok: it answers: PING: MISCONF Redis is configured to save RDB snapshots",
				"ok: replica, in touch with its master; MISCONF: the last save failed, writes are refused"},
		},
		"MASTERDOWN": {
			o: with(replica(), linkDown(time.Second), trouble(ReasonMasterDown, "PING: MASTERDOWN Link with MASTER is down")),
			want: [3]string{started, "ok: it answers: PING: MASTERDOWN Link with MASTER is down",
				"not ready: MASTERDOWN: the link to the master is down and replica-serve-stale-data is no"},
		},
		"MASTERDOWN, stale data allowed": {
			o:      with(replica(), linkDown(time.Second), trouble(ReasonMasterDown, "PING: MASTERDOWN Link with MASTER is down")),
			policy: allowStale,
			want: [3]string{started, "ok: it answers: PING: MASTERDOWN Link with MASTER is down",
				"not ready: MASTERDOWN: the link to the master is down and replica-serve-stale-data is no"},
		},
		"first full sync": {
			o:    with(replica(), fullSync),
			want: [3]string{started, alive, "not ready: first full copy from the master: 25 %, 10.0 MiB of 40.0 MiB"},
		},
		"first full sync, stale data allowed": {
			o:      with(replica(), fullSync),
			policy: allowStale,
			want:   [3]string{started, alive, "not ready: first full copy from the master: 25 %, 10.0 MiB of 40.0 MiB"},
		},
		"before the first full sync": {
			o: with(replica(), func(o *Observation) { o.LinkUp, o.HasData = false, false }),
			want: [3]string{started, alive,
				"not ready: waiting for the first copy of the master's data"},
		},
		"later full sync serves old data": {
			o:    with(replica(), fullSync, linkDown(5*time.Second), func(o *Observation) { o.HasData = true }),
			want: [3]string{started, alive, "ok: replica, the link to the master is down for 5 s, allowed are 10 s"},
		},
		"link down for a moment": {
			o:    with(replica(), linkDown(10*time.Second)),
			want: [3]string{started, alive, "ok: replica, the link to the master is down for 10 s, allowed are 10 s"},
		},
		"link down for longer": {
			o:    with(replica(), linkDown(11*time.Second)),
			want: [3]string{started, alive, "not ready: the link to the master is down for 11 s, more than 10 s"},
		},
		"link down, stale data allowed": {
			o:      with(replica(), linkDown(time.Hour)),
			policy: allowStale,
			want:   [3]string{started, alive, "ok: replica, serving stale data: the link to the master is down for 3600 s"},
		},
		"link up, master idle": {
			o:    with(replica(), func(o *Observation) { o.LinkMute = 30 * time.Second }),
			want: [3]string{started, alive, "ok: replica, in touch with its master"},
		},
		"link up, master silent": {
			o:    with(replica(), func(o *Observation) { o.LinkMute = 31 * time.Second }),
			want: [3]string{started, alive, "not ready: the master is silent for 31 s, more than 30 s"},
		},
		"cluster ok": {
			o:    with(healthy(), cluster("ok", true)),
			want: [3]string{started, alive, "ok: master, cluster ok"},
		},
		"cluster not formed yet": {
			o:    with(healthy(), cluster("fail", false)),
			want: [3]string{started, alive, "ok: master; the cluster is not formed yet"},
		},
		"cluster fail after it was ok": {
			o:    with(healthy(), cluster("fail", true)),
			want: [3]string{started, alive, "not ready: cluster_state is fail, it was ok before"},
		},
		"announced address is being corrected": {
			o: with(healthy(), func(o *Observation) { o.Announce = "cluster-announce-ip is 10.0.0.1, own address is 10.0.0.2" }),
			want: [3]string{started, alive,
				"not ready: cluster-announce-ip is 10.0.0.1, own address is 10.0.0.2"},
		},
		"cannot ask, was ready": {
			o: with(healthy(), unable),
			want: [3]string{started,
				"ok: cannot ask the server, which is no proof of death: PING: lookup redis: no such host",
				"ok: as before; cannot ask the server: PING: lookup redis: no such host"},
		},
		"cannot ask, from the start": {
			o: with(Observation{}, unable),
			want: [3]string{
				"ok: cannot ask the server: PING: lookup redis: no such host",
				"ok: cannot ask the server, which is no proof of death: PING: lookup redis: no such host",
				"not ready: cannot ask the server: PING: lookup redis: no such host"},
		},
		"the sidecar stood still": {
			o: with(healthy(), silent(300*time.Second, 300), stale),
			want: [3]string{started, "ok: the sidecar itself has not looked for 12 s",
				"not ready: no answer for 300 s; the sidecar itself has not looked for 12 s"},
		},
		"the sidecar stood still, from the start": {
			o: with(Observation{}, stale),
			want: [3]string{"ok: the sidecar itself has not looked for 12 s", "ok: the sidecar itself has not looked for 12 s",
				"not ready: the server was not asked yet; the sidecar itself has not looked for 12 s"},
		},
		"the sidecar stood still, all was well": {
			o: with(healthy(), stale),
			want: [3]string{started, "ok: the sidecar itself has not looked for 12 s",
				"ok: master; the sidecar itself has not looked for 12 s"},
		},
		"one look, refused": {
			o: with(Observation{Once: true}, refused(0)),
			want: [3]string{
				"not started: PING: connect: connection refused",
				"not alive: PING: connect: connection refused",
				"not ready: PING: connect: connection refused",
			},
		},
		"one look, silent": {
			o: with(Observation{Once: true}, silent(0, 0)),
			want: [3]string{
				"not started: no answer in time",
				"ok: no answer, but one look cannot tell a hung server from a busy one",
				"not ready: no answer in time",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := DefaultPolicy()
			if tt.policy != nil {
				tt.policy(&p)
			}
			v := Judge(tt.o, p)
			var got [3]string
			for i, k := range Kinds() {
				got[i] = v.Of(k).Line(k)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("verdicts (-want +got):\n%s", diff)
			}
		})
	}
}

// Every verdict, for whatever observation, has a reason and a one-line message,
// and the sidecar's own trouble never kills.
func TestJudgeHoldsForEveryObservation(t *testing.T) {
	t.Parallel()
	durations := []time.Duration{0, time.Minute, time.Hour}
	bools := []bool{false, true}
	for _, contact := range []Contact{Unasked, Answered, Silent, Refused, Unable} {
		for _, trouble := range []Reason{"", ReasonBusy, ReasonAuth, ReasonNoPerm, ReasonMaxClients, ReasonMisconf, ReasonMasterDown} {
			for _, role := range []Role{"", Master, Replica, Sentinel} {
				for _, d := range durations {
					for _, stale := range durations {
						for _, loading := range bools {
							for _, up := range bools {
								for _, started := range bools {
									for _, once := range bools {
										check(t, Observation{
											Contact: contact, Trouble: trouble, Role: role, Silent: d, Busy: d, LoadingStalled: d,
											LinkDown: d, Misses: int(d.Seconds()), Stale: stale, Loading: loading, WasUp: up,
											LinkUp: up, Started: started, WasReady: started, Once: once, Error: "an error",
										})
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func check(t *testing.T, o Observation) {
	t.Helper()
	v := Judge(o, DefaultPolicy())
	for _, k := range Kinds() {
		verdict := v.Of(k)
		if verdict.Reason == "" || verdict.Message == "" || strings.Contains(verdict.Message, "\n") {
			t.Fatalf("%s of %+v: incomplete: %+v", k, o, verdict)
		}
	}
	if !v.Liveness.OK {
		switch {
		case o.Stale > 0, o.Contact == Unable, o.Contact == Unasked:
			t.Fatalf("the sidecar's own trouble kills: %+v: %+v", o, v.Liveness)
		case o.Contact == Answered && !o.Loading:
			t.Fatalf("a server that answers is killed: %+v: %+v", o, v.Liveness)
		}
	}
}
