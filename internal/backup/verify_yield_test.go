package backup

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
)

// slowStore is a real store that is slow to hand out data, but not manifests.
type slowStore struct {
	store.Store
	takes time.Duration
}

func (s slowStore) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if strings.Contains(key, "/dump.rdb") {
		if err := sleep(ctx, s.takes); err != nil {
			return nil, 0, err
		}
	}
	return s.Store.Get(ctx, key)
}

// newSlowVerifyJob returns a job that verifies one snapshot at its start, which
// takes two hours, and that snapshot.
func newSlowVerifyJob(t *testing.T, schedule string, change func(*Options)) (*testJob, Manifest) {
	t.Helper()
	plan, err := ParseSchedule("@every 24h")
	if err != nil {
		t.Fatal(err)
	}
	j := newTestJob(t, schedule, func(o *Options) {
		o.Verify, o.LeaseTTL = VerifyPlan{Schedule: plan}, time.Hour // few renewals
		if change != nil {
			change(o)
		}
	})
	j.store.Store = slowStore{j.store.Store, 2 * time.Hour}
	return j, putReal(t, newTestCatalogue(t, j.store), j.start.Add(-time.Hour))
}

func (j *testJob) wantVerified(want map[string]time.Duration) {
	j.t.Helper()
	if diff := cmp.Diff(want, j.verified()); diff != "" {
		j.t.Errorf("verified (-want +got):\n%s", diff)
	}
}

// A snapshot never waits for a verification, which begins anew after it.
func TestJobVerificationYields(t *testing.T) {
	const soon = verifySoon
	t.Run("to the schedule", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j, m := newSlowVerifyJob(t, "0 1 * * *", nil)
			j.run()
			if d := j.report().Detail.(Detail); d.Verifying == nil {
				t.Error("it does not verify")
			}
			j.at(time.Hour)
			j.wantTaken(time.Hour)
			j.wantVerified(map[string]time.Duration{})
			if log := j.log.String(); !strings.Contains(log, "the verification was interrupted") || !strings.Contains(log, "snapshot="+m.ID) {
				t.Errorf("log:\n%s", log)
			}
			j.at(5 * time.Hour)
			j.wantVerified(map[string]time.Duration{m.ID: 3*time.Hour + soon})
			j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 1, `verifications_total{result="failed"}`: 0, "damaged_snapshots": 0})
			j.wantState(status.OK, "", "")
		})
	})
	t.Run("to a request", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j, m := newSlowVerifyJob(t, "0 0 31 12 *", nil)
			j.run()
			j.at(time.Hour)
			j.ask("POST", "/backup?wait", nil).want(t, 200, "done", "", "")
			j.wantTaken(time.Hour)
			if got := time.Since(j.start); got != time.Hour {
				t.Errorf("answered after %s", got)
			}
			j.at(5 * time.Hour)
			j.wantVerified(map[string]time.Duration{m.ID: 3*time.Hour + soon})
		})
	})
	t.Run("to the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j, _ := newSlowVerifyJob(t, "0 0 31 12 *", func(o *Options) { o.OnShutdown, o.Drain = true, time.Minute })
			j.run()
			j.at(time.Hour)
			j.stop()
			j.wantTaken(time.Hour)
			if got := time.Since(j.start); got != time.Hour {
				t.Errorf("it ended after %s", got)
			}
			// Nobody has to wait for its lease to run out.
			h, err := newLease(j.store, "test/"+verifyLeaseName, LeaseOptions{Pod: "redis-1"}).Acquire(testContext(t), "verification")
			if err != nil {
				t.Fatal(err)
			}
			h.Release()
		})
	})
	t.Run("to a request at the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j, _ := newSlowVerifyJob(t, "0 0 31 12 *", nil)
			j.run()
			j.at(time.Hour)
			go j.stop()
			if a := j.ask("POST", "/backup", nil); a.code != 202 && a.code != 503 {
				t.Errorf("%+v", a)
			}
			j.stop()
		})
	})
}

// Verification and snapshots have leases of their own.
func TestJobVerificationIsInNoOtherPodsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, m := newSlowVerifyJob(t, "0 3 * * *", nil)
		j.run()
		j.at(time.Minute)
		h, err := NewLease(j.store, "test", LeaseOptions{Pod: "redis-1"}).Acquire(testContext(t), "snapshot")
		if err != nil {
			t.Fatal(err)
		}
		h.Release()
		j.at(2 * time.Hour)
		j.wantVerified(map[string]time.Duration{m.ID: 2 * time.Hour})
	})
	synctest.Test(t, func(t *testing.T) {
		j, _ := newSlowVerifyJob(t, "0 1 * * *", nil)
		h, err := newLease(j.store, "test/"+verifyLeaseName, LeaseOptions{Pod: "redis-1", TTL: 50 * time.Minute}).Acquire(context.Background(), "verification")
		if err != nil {
			t.Fatal(err)
		}
		defer h.Release()
		j.run()
		j.at(4 * time.Hour)
		j.wantTaken(time.Hour)
		j.wantVerified(map[string]time.Duration{}) // that pod does it
	})
}

// What can never be done between two snapshots is said, and tried less often.
func TestJobVerificationHasNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, m := newSlowVerifyJob(t, "0 1-23 * * *", nil)
		j.run()
		j.at(3*time.Hour + time.Minute)
		h := time.Hour
		j.wantTaken(h, 2*h, 3*h)
		j.wantVerified(map[string]time.Duration{})
		j.wantMetrics(map[string]float64{`verifications_total{result="failed"}`: 1})
		if d := j.report().Detail.(Detail); d.Verifying != nil {
			t.Error("it is tried again at once")
		}
		j.wantState(status.Warning, status.ReasonTimeout, "the last verification failed: verify: snapshot "+m.ID+": interrupted 3 times in a row")
		j.at(23*h + time.Minute)
		if n := len(j.begun()); n != 23 {
			t.Errorf("%d snapshots in a day", n)
		}
		if n := strings.Count(j.log.String(), "verifying snapshots"); n < 6 || n > 18 {
			t.Errorf("%d tries in a day", n)
		}
	})
}

// Of a run that is interrupted, what was verified by then is not verified again.
func TestJobVerificationGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, m := newSlowVerifyJob(t, "0 3 * * *", func(o *Options) { o.Verify.Sample = 2 })
		c := newTestCatalogue(t, j.store)
		second, third := putReal(t, c, j.start.Add(-3*time.Hour)), putReal(t, c, j.start.Add(-2*time.Hour))
		j.run()
		j.at(3*time.Hour + time.Second)
		j.wantTaken(3 * time.Hour)
		j.wantVerified(map[string]time.Duration{m.ID: 2 * time.Hour})
		if err := c.Delete(testContext(t), third.ID); err != nil { // by another pod
			t.Fatal(err)
		}
		j.at(9 * time.Hour)
		j.wantVerified(map[string]time.Duration{m.ID: 2 * time.Hour, second.ID: 5*time.Hour + verifySoon})
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 2, `verifications_total{result="failed"}`: 0})
	})
}

// A snapshot that is deleted between the listing and the look at it is no damage.
func TestJobOfASnapshotThatIsDeletedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "@every 24h", nil)
		c := newTestCatalogue(t, j.store)
		m := putReal(t, c, j.start.Add(-time.Hour))
		j.store.before = func(op, key string) error {
			if op == "get" && key == c.manifestKey(m.ID) {
				return c.Delete(context.Background(), m.ID)
			}
			return nil
		}
		j.run()
		j.wantState(status.OK, "", "no snapshot yet")
		j.wantMetrics(map[string]float64{"damaged_snapshots": 0})
	})
}
