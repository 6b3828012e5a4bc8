package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// pods returns n jobs of one instance in one store, of pods redis-0 and so on.
func pods(t *testing.T, n int, schedule string, change func(pod int, o *Options)) []*testJob {
	t.Helper()
	var out []*testJob
	for i := range n {
		j := newTestJob(t, schedule, func(o *Options) {
			o.Snapshot.Pod = fmt.Sprintf("redis-%d", i)
			if change != nil {
				change(i, o)
			}
		})
		if i > 0 {
			j.store = &hookedStore{Store: out[0].store.Store}
		}
		out = append(out, j)
	}
	return out
}

// allBegun returns when snapshots were begun, by whichever pod.
func allBegun(pods []*testJob) []time.Duration {
	var all []time.Duration
	for _, j := range pods {
		all = append(all, j.begun()...)
	}
	slices.Sort(all)
	return all
}

// However many pods there are, each time of the schedule brings one snapshot.
func TestJobsTakeOneSnapshotEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 3, "*/10 * * * *", func(_ int, o *Options) { o.Jitter = time.Minute })
		for _, j := range js {
			j.takes = 40 * time.Second
			j.run()
		}
		js[0].at(5*time.Hour + 5*time.Minute)
		all := allBegun(js)
		if len(all) != 30 {
			t.Errorf("%d snapshots at 30 times: %v", len(all), all)
		}
		for i, at := range all {
			if late := at - time.Duration(i+1)*10*time.Minute; late < 0 || late > time.Minute {
				t.Errorf("snapshot %d was begun %s late", i, late)
			}
		}
		took := map[string]int{}
		for _, j := range js {
			took[j.opts.Snapshot.Pod] = len(j.begun())
			if r := j.report(); r.State != status.OK {
				t.Errorf("%s: %s %s", j.opts.Snapshot.Pod, r.State, r.Message)
			}
			if d := j.report().Detail.(Detail); d.Waiting != "" || d.Lease == nil || d.Lease.Mode != LeaseConditional {
				t.Errorf("%s: detail %+v", j.opts.Snapshot.Pod, d)
			}
		}
		if len(took) != 3 || took["redis-0"] == 0 || took["redis-1"] == 0 || took["redis-2"] == 0 {
			t.Errorf("taken by %v: with jitter it is everybody's turn at some time", took)
		}
	})
}

// The pods count an interval from the same snapshot, so it is one for all of them.
func TestJobsTakeOneSnapshotEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 3, "@every 1h", nil)
		for i, j := range js {
			j.takes = 30 * time.Second
			js[0].at(time.Duration(i*(i+1)/2) * 7 * time.Minute) // they do not start together
			j.run()
		}
		js[0].at(20*time.Hour + 30*time.Minute)
		all := allBegun(js)
		for i := 1; i < len(all); i++ {
			if apart := all[i] - all[i-1]; apart < time.Hour || apart > time.Hour+2*time.Minute {
				t.Errorf("%s between two snapshots", apart)
			}
		}
		if len(all) < 19 || len(all) > 20 {
			t.Errorf("%d snapshots in 20 h: %v", len(all), all)
		}
	})
}

// stands makes a job's server look so.
func (j *testJob) stands(role string, replicas int, err error) {
	j.says(func() (standing, error) { return standing{role, replicas, err}, nil })
}

func (j *testJob) says(fn func() (standing, error)) { j.server.Store(&fn) }

func preferReplica(_ int, o *Options) { o.Snapshot.Role = RolePreferReplica }

func TestJobPrefersReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 2, "@hourly", preferReplica)
		master, replica := js[0], js[1]
		master.stands("master", 1, nil)
		replica.stands("slave", 0, nil)
		for _, j := range js {
			j.takes = 2 * time.Second
			j.run()
		}
		master.at(time.Hour + time.Second)
		if d := master.report().Detail.(Detail); d.Waiting != "for a replica to take it" || d.Server != "master" || d.Role != RolePreferReplica {
			t.Errorf("detail of the master %+v", d)
		}
		master.at(3*time.Hour + 30*time.Minute)
		master.wantTaken()
		replica.wantTaken(time.Hour, 2*time.Hour, 3*time.Hour)
		master.wantState(status.OK, "", "standing by: redis-0 has taken 2000")

		// The sidecar of the replica is gone, which the master does not know.
		replica.stop()
		master.at(4*time.Hour + 30*time.Minute)
		master.wantTaken(4*time.Hour + othersFirst)

		// So is its server.
		master.stands("master", 0, nil)
		master.at(5*time.Hour + 30*time.Minute)
		master.wantTaken(4*time.Hour+othersFirst, 5*time.Hour)
		replica.wantTaken(time.Hour, 2*time.Hour, 3*time.Hour)
	})
}

// The replica begins late, by its jitter, and takes long: the master waits for both.
func TestJobWaitsForASlowReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 2, "@hourly", func(i int, o *Options) {
			preferReplica(i, o)
			o.Jitter = 10 * time.Minute
		})
		js[0].stands("master", 1, nil)
		js[1].stands("slave", 0, nil)
		js[1].takes = 35 * time.Minute
		for _, j := range js {
			j.run()
		}
		js[0].at(12*time.Hour + 59*time.Minute)
		js[0].wantTaken()
		if n := len(js[1].begun()); n != 12 {
			t.Errorf("%d snapshots in 12 h", n)
		}
	})
}

// A replica that is not in step leaves it to the others; that nobody took it is a
// failure of its own.
func TestJobOfAReplicaThatIsNotInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 2, "@hourly", preferReplica)
		master, replica := js[0], js[1]
		master.stands("master", 0, nil)
		replica.stands("slave", 0, status.WithReason(status.ReasonMasterDown, errors.New("no link")))
		master.takes = 20 * time.Minute
		for _, j := range js {
			j.run()
		}
		master.at(2*time.Hour + 10*time.Minute)
		replica.wantState(status.OK, "", "standing by: redis-0 has taken 2000")
		if d := replica.report().Detail.(Detail); d.Waiting != "for others to take it: no link" {
			t.Errorf("waiting %q", d.Waiting)
		}
		master.at(2*time.Hour + 30*time.Minute)
		master.wantTaken(time.Hour, 2*time.Hour)
		replica.wantTaken()
		replica.wantState(status.OK, "", "standing by: redis-0 has taken 2000")

		master.stop()
		replica.at(3*time.Hour + othersFirst - time.Second)
		replica.wantState(status.OK, "", "standing by: ")
		replica.at(3*time.Hour + othersFirst + time.Second)
		replica.wantState(status.Failing, status.ReasonMasterDown, "no link")
		replica.stands("slave", 0, nil)
		replica.at(3*time.Hour + 10*time.Minute)
		replica.wantState(status.OK, "", "snapshot 2000")
	})
}

// The holder fails: the others do not wait for it to get well.
func TestJobsTakeOverFromOneThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 2, "@hourly", preferReplica)
		master, replica := js[0], js[1]
		master.stands("master", 1, nil)
		replica.stands("slave", 0, nil)
		replica.fail = func(int) error { return status.WithReason(status.ReasonDiskFull, errors.New("disk full")) }
		for _, j := range js {
			j.run()
		}
		master.at(time.Hour + 10*time.Second)
		replica.wantState(status.Failing, status.ReasonDiskFull, "disk full")
		master.at(time.Hour + 10*time.Minute)
		master.wantTaken(time.Hour + othersFirst)
		replica.wantState(status.OK, "", "standing by: redis-0 has taken ") // there is a snapshot
		if n := len(replica.begun()); n != 1 {
			t.Errorf("the replica tried %d times", n)
		}
	})
}

// kill -9 of the pod that takes the snapshot: after the TTL of its lease another
// takes it. The killed one, should it only have stood still, publishes nothing.
func TestJobsTakeOverFromOneThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 3, "@hourly", nil)
		var dead atomic.Bool
		js[0].takes = 30 * time.Minute
		js[0].store.before = func(string, string) error {
			if dead.Load() {
				return errors.New("this process is dead")
			}
			return nil
		}
		js[0].run()
		js[0].at(time.Hour + 10*time.Second)
		for _, j := range js[1:] {
			j.run()
		}
		js[0].at(time.Hour + time.Minute)
		js[0].wantTaken(time.Hour)
		dead.Store(true)
		js[0].at(2*time.Hour - time.Minute)
		if !strings.Contains(js[0].log.String(), "the backup lease was lost: it could not be renewed") {
			t.Errorf("the dead one says\n%s", js[0].log)
		}
		// One that starts has not missed this time: it was not due yet when it began.
		if n := len(js[1].begun()) + len(js[2].begun()); n != 0 {
			t.Errorf("%d were taken without need", n)
		}
		dead.Store(false)
		js[0].stop()

		// Now the others have been there at the time.
		js[1].at(2*time.Hour + time.Minute)
		if all := allBegun(js[1:]); len(all) != 1 || all[0] < 2*time.Hour || all[0] > 2*time.Hour+time.Minute {
			t.Errorf("begun after %v", all)
		}
	})
}

// The same with all of them there from the start.
func TestJobsTakeOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 2, "@hourly", preferReplica)
		master, replica := js[0], js[1]
		master.stands("master", 1, nil)
		replica.stands("slave", 0, nil)
		replica.takes = 30 * time.Minute
		var dead atomic.Bool
		replica.store.before = func(string, string) error {
			if dead.Load() {
				return errors.New("this process is dead")
			}
			return nil
		}
		for _, j := range js {
			j.run()
		}
		master.at(time.Hour + 5*time.Minute)
		replica.wantTaken(time.Hour)
		if d := master.report().Detail.(Detail); !strings.Contains(d.Waiting, "redis-1/") || !strings.Contains(d.Waiting, " has the backup lease since 2000-01-01T01:00:00Z") {
			t.Errorf("the master waits %q", d.Waiting)
		}
		if d := replica.report().Detail.(Detail); d.Lease == nil || !d.Lease.Mine {
			t.Errorf("lease of the replica %+v", d.Lease)
		}
		dead.Store(true)
		master.at(time.Hour + 5*time.Minute + 2*DefaultLeaseTTL)
		taken := master.begun()
		if len(taken) != 1 || taken[0] < time.Hour+5*time.Minute+DefaultLeaseTTL/2 {
			t.Errorf("the master took over after %v", taken)
		}
		master.at(time.Hour + 40*time.Minute)
		if ids, err := newTestCatalogue(t, master.store).IDs(context.Background()); err != nil || len(ids) != 1 {
			t.Errorf("%v, %v: want the one of the master", ids, err)
		}
	})
}

// A time at which nothing ran is made up for, once, and not in a store that never
// had a snapshot.
func TestJobMakesUpForAMissedRun(t *testing.T) {
	tests := []struct {
		name     string
		schedule string
		age      time.Duration // of the newest snapshot; 0: none
		onStart  time.Duration
		want     Trigger // of the run at the start; "" none
	}{
		{"missed", "0 */6 * * *", 7 * time.Hour, 0, TriggerMissed},
		{"missed many times", "0 */6 * * *", 700 * time.Hour, 0, TriggerMissed},
		{"not missed", "30 23 * * *", 29 * time.Minute, 0, ""},
		{"taken at the time", "30 23 * * *", 30 * time.Minute, 0, ""},
		{"never one", "0 */6 * * *", 0, 0, ""},
		{"an interval", "@every 6h", 3 * time.Hour, 0, ""},
		{"an interval that is over", "@every 6h", 7 * time.Hour, 0, TriggerSchedule},
		{"on start, old", "30 23 * * *", 20 * time.Minute, 10 * time.Minute, TriggerStart},
		{"on start, young", "30 23 * * *", 5 * time.Minute, 10 * time.Minute, ""},
		{"on start, none", "0 */6 * * *", 0, 10 * time.Minute, TriggerStart},
		{"on start, an interval", "@every 6h", time.Hour, 10 * time.Minute, TriggerStart},
		{"on start, and missed", "0 */6 * * *", 7 * time.Hour, 24 * time.Hour, TriggerMissed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := pods(t, 2, tt.schedule, func(_ int, o *Options) { o.OnStart = tt.onStart })
				if tt.age > 0 {
					putSnapshot(t, newTestCatalogue(t, js[0].store), testManifest(js[0].start.Add(-tt.age), 1))
				}
				for _, j := range js {
					j.run()
				}
				js[0].at(2 * time.Minute)
				var got []Trigger
				for _, j := range js {
					if d := j.report().Detail.(Detail); d.LastRun != nil {
						got = append(got, d.LastRun.Trigger)
					}
				}
				var want []Trigger
				if tt.want != "" {
					want = []Trigger{tt.want}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("runs at the start (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// What comes due while another pod is at it is left out here, too.
func TestJobSkipsWhileOthersAreAtIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := pods(t, 2, "*/10 * * * *", nil)
		for _, j := range js {
			j.takes = 35 * time.Minute
			j.run()
		}
		js[0].at(85 * time.Minute)
		if diff := cmp.Diff([]time.Duration{10 * time.Minute, 50 * time.Minute}, allBegun(js)); diff != "" {
			t.Errorf("begun (-want +got):\n%s", diff)
		}
	})
}

// A last snapshot at the end, in the time that is left, and of the right server.
func TestJobTakesALastSnapshot(t *testing.T) {
	held := func(j *testJob) { // by somebody else
		l := newTestLease(j.t, j.store.Store, "redis-9")
		h, err := l.Acquire(context.Background(), "a test")
		if err != nil {
			j.t.Fatal(err)
		}
		j.t.Cleanup(h.Release)
	}
	tests := []struct {
		name   string
		drain  time.Duration
		takes  time.Duration
		before func(j *testJob)
		want   []time.Duration // when snapshots were begun
		took   time.Duration   // the end
		log    string
	}{
		{"taken", time.Minute, 20 * time.Second, nil, []time.Duration{30 * time.Minute}, 20 * time.Second, `msg="the last snapshot" job=backup result="snapshot 2000`},
		{"no time", 10 * time.Second, 20 * time.Second, nil, []time.Duration{30 * time.Minute}, 10 * time.Second, "there is no last snapshot"},
		{"no drain", 0, 0, nil, nil, 0, "no time was left"},
		{"of a replica", time.Minute, time.Second, func(j *testJob) { j.stands("slave", 0, nil) }, nil, 0, "no last snapshot"},
		{"the server is gone", time.Minute, time.Second, func(j *testJob) {
			j.says(func() (standing, error) {
				return standing{}, status.WithReason(status.ReasonUnreachable, errors.New("connection refused"))
			})
		}, nil, 0, "redis-server ended before the sidecar was told to"},
		{"another one is being taken", time.Minute, time.Second, held, nil, time.Minute, "there is no last snapshot"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJob(t, "@hourly", func(o *Options) {
					preferReplica(0, o)
					o.OnShutdown, o.Drain = true, tt.drain
				})
				j.takes = tt.takes
				j.run()
				j.at(30 * time.Minute)
				if tt.before != nil {
					tt.before(j)
				}
				j.stop()
				if took := time.Since(j.start) - 30*time.Minute; took != tt.took {
					t.Errorf("the end took %s, want %s", took, tt.took)
				}
				j.wantTaken(tt.want...)
				if !strings.Contains(j.log.String(), tt.log) {
					t.Errorf("not in the log: %s\n%s", tt.log, j.log)
				}
			})
		})
	}
}

// A snapshot that was on its way at the end is of before it: another one follows.
func TestJobTakesALastSnapshotAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.OnShutdown, o.Drain = true, time.Hour })
		j.takes = 10 * time.Minute
		j.run()
		j.at(time.Hour + time.Minute)
		j.stop()
		j.wantTaken(time.Hour, time.Hour+10*time.Minute)
		if took := time.Since(j.start); took != time.Hour+20*time.Minute {
			t.Errorf("it ended after %s", took)
		}
	})
}

// A store that ignores conditions: snapshots are taken, and a person is told.
func TestJobOfAStoreThatIgnoresConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", nil)
		j.Job.open = func(context.Context) (Store, error) { return ignoringStore{j.store}, nil }
		j.run()
		j.at(3*time.Hour + time.Minute)
		j.wantState(status.Warning, status.ReasonLease, "; but the store ignores conditional writes")
		j.wantTaken(time.Hour+leaseSettles, 2*time.Hour+leaseSettles, 3*time.Hour+leaseSettles)
		if n := strings.Count(j.log.String(), "the store ignores conditional writes: two pods"); n != 1 {
			t.Errorf("said %d times, want once:\n%s", n, j.log)
		}
		if d := j.report().Detail.(Detail); d.Lease.Mode != LeaseBestEffort {
			t.Errorf("lease %+v", d.Lease)
		}
	})
}
