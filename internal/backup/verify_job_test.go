package backup

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// putReal stores a snapshot with the RDB of a real server, which verifies.
func putReal(tb testing.TB, c *Catalogue, at time.Time) Manifest {
	tb.Helper()
	plain, err := os.ReadFile("testdata/dump.rdb")
	if err != nil {
		tb.Fatal(err)
	}
	summary, err := rdb.Scan(bytes.NewReader(plain))
	if err != nil {
		tb.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	defer enc.Close()
	stored := enc.EncodeAll(plain, nil)
	m := testManifest(at, 0)
	m.RDB = describeRDB(summary)
	m.RDB.Size, m.RDB.SHA256 = int64(len(plain)), hexSHA256(plain)
	m.Object.Size, m.Object.SHA256 = int64(len(stored)), hexSHA256(stored)
	put(tb, c.store, c.ObjectKey(m), string(stored))
	if err := c.publish(testContext(tb), m); err != nil {
		tb.Fatal(err)
	}
	return m
}

// newVerifyJob is a job that takes no snapshots within the next months: the
// verifications stand alone.
func newVerifyJob(t *testing.T, schedule string, change func(*Options)) *testJob {
	t.Helper()
	plan, err := ParseSchedule(schedule)
	if err != nil {
		t.Fatal(err)
	}
	return newTestJob(t, "0 0 31 12 *", func(o *Options) {
		o.Verify = VerifyPlan{Schedule: plan}
		if change != nil {
			change(o)
		}
	})
}

// verified returns when snapshots were verified, after the start, as the records
// say: by id.
func (j *testJob) verified() map[string]time.Duration {
	j.t.Helper()
	entries, err := newTestCatalogue(j.t, j.store).List(testContext(j.t), 0)
	if err != nil {
		j.t.Fatal(err)
	}
	got := map[string]time.Duration{}
	for _, e := range entries {
		if e.Verified != nil {
			got[e.ID] = e.Verified.VerifiedAt.Sub(j.start)
		}
	}
	return got
}

func (j *testJob) wantMetrics(want map[string]float64) {
	j.t.Helper()
	all := testenv.Metrics(j.t, NewVerifyMetrics(j.Job))
	got := map[string]float64{}
	for name := range want {
		v, ok := all["redis_sidecar_backup_"+name]
		if !ok {
			j.t.Fatalf("no %s in %v", name, all)
		}
		got[name] = v
	}
	if diff := cmp.Diff(want, got); diff != "" {
		j.t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// A plan of every 24 hours: the first at once, then the newest each day, and of
// the others those that were not verified for the longest time.
func TestJobVerifies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "@every 24h", func(o *Options) { o.Verify.Sample = 1 })
		c := newTestCatalogue(t, j.store)
		var ms []Manifest // newest first
		for i := range 4 {
			ms = append(ms, putReal(t, c, j.start.Add(-time.Duration(i+1)*time.Hour)))
		}
		j.wantMetrics(map[string]float64{"last_verified_timestamp_seconds": 0, `verifications_total{result="passed"}`: 0, `verifications_total{result="damaged"}`: 0, `verifications_total{result="failed"}`: 0, "damaged_snapshots": 0})
		j.run()
		if diff := cmp.Diff(map[string]time.Duration{ms[0].ID: 0, ms[3].ID: 0}, j.verified()); diff != "" {
			t.Errorf("at the start (-want +got):\n%s", diff)
		}
		j.at(23*time.Hour + 59*time.Minute)
		if n := len(j.verified()); n != 2 {
			t.Errorf("%d are verified before a day is over", n)
		}
		j.at(24*time.Hour + 11*time.Minute)
		day := 24 * time.Hour
		if diff := cmp.Diff(map[string]time.Duration{ms[0].ID: day, ms[3].ID: 0, ms[2].ID: day}, j.verified()); diff != "" {
			t.Errorf("after a day (-want +got):\n%s", diff)
		}
		j.wantMetrics(map[string]float64{
			"last_verified_timestamp_seconds": float64(ms[0].CreatedAt.Unix()), `verifications_total{result="passed"}`: 4, "damaged_snapshots": 0,
		})
		d := j.report().Detail.(Detail)
		if l := d.Snapshots[0]; l.Verified != "full" || !l.VerifiedAt.Equal(j.start.Add(day)) || l.Error != "" || d.Verifying != nil {
			t.Errorf("line %+v", l)
		}
		if l := d.Snapshots[1]; l.Verified != "" {
			t.Errorf("line %+v", l)
		}
	})
}

// Another pod has verified: nothing is due here. A time that was missed is made
// up for, once.
func TestJobVerifyIsDueByTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "30 5 * * *", nil)
		c := newTestCatalogue(t, j.store)
		m := putReal(t, c, j.start.Add(-time.Hour))
		o := VerifyOptions{Tool: "test", Pod: "redis-1", Scheduled: true}
		if _, _, err := c.VerifyAndRecord(testContext(t), m.ID, o); err != nil {
			t.Fatal(err)
		}
		j.run()
		j.at(5*time.Hour + 29*time.Minute)
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 0, "last_verified_timestamp_seconds": float64(m.CreatedAt.Unix())})
		j.at(5*time.Hour + 41*time.Minute)
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 1})
		j.at(23 * time.Hour)
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 1})
		j.at(30 * time.Hour)
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 2})
		// By a command does not count.
		j.at(53 * time.Hour)
		if _, _, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Tool: "test"}); err != nil {
			t.Fatal(err)
		}
		j.at(54 * time.Hour)
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 3})
	})
}

// Damage is said also when a snapshot after it has something else to say, and a snapshot dated in
// the future is not verified in the place of the newest.
func TestJobDamageAndTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hourly, err := ParseSchedule("@every 1h")
		if err != nil {
			t.Fatal(err)
		}
		j := newVerifyJob(t, "@every 24h", func(o *Options) { o.Schedule = hourly })
		c := newTestCatalogue(t, j.store)
		bad := putReal(t, c, j.start.Add(-time.Minute))
		good := putReal(t, c, j.start.Add(-time.Hour))
		future := putReal(t, c, j.start.AddDate(1, 0, 0))
		put(t, j.store, c.ObjectKey(bad), strings.Repeat("y", int(bad.Object.Size)))
		j.run()
		damage := "snapshot " + bad.ID + " is damaged, the last verified one is " + good.ID
		j.wantState(status.Warning, status.ReasonCorrupt, damage)
		if _, ok := j.verified()[future.ID]; ok {
			t.Errorf("%s was verified, and not only the newest and what was taken before it", future.ID)
		}
		j.at(2 * time.Hour)
		j.wantState(status.Warning, status.ReasonCorrupt, "; but "+damage+"; and 1 snapshots are dated in the future")
	})
}

// Damage is loud, stays so until the snapshot is gone, and the last good one is
// looked for.
func TestJobVerifyFindsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "@every 24h", nil)
		c := newTestCatalogue(t, j.store)
		var ms []Manifest // newest first
		for i := range 4 {
			ms = append(ms, putReal(t, c, j.start.Add(-time.Duration(i+1)*time.Hour)))
		}
		for _, m := range ms[:2] {
			put(t, j.store, c.ObjectKey(m), strings.Repeat("y", int(m.Object.Size)))
		}
		j.run()
		if diff := cmp.Diff(map[string]time.Duration{ms[0].ID: 0, ms[1].ID: 0, ms[2].ID: 0}, j.verified()); diff != "" {
			t.Errorf("verified (-want +got):\n%s", diff)
		}
		j.wantState(status.Warning, status.ReasonCorrupt, "2 snapshots are damaged, the newest is "+ms[0].ID+", the last verified one is "+ms[2].ID)
		j.wantMetrics(map[string]float64{
			"last_verified_timestamp_seconds": float64(ms[2].CreatedAt.Unix()), `verifications_total{result="damaged"}`: 2, `verifications_total{result="passed"}`: 1, "damaged_snapshots": 2,
		})
		if n := testenv.Metrics(t, status.NewMetrics(j.board))[`redis_sidecar_job_failures_total{name="backup",reason="corrupt"}`]; n != 2 {
			t.Errorf("%v failures for corrupt", n)
		}
		if log := j.log.String(); strings.Count(log, "a snapshot in the store is damaged") != 2 || !strings.Contains(log, "snapshot="+ms[0].ID) {
			t.Errorf("log:\n%s", log)
		}
		if l := j.report().Detail.(Detail).Snapshots[0]; !strings.Contains(l.Error, "is damaged") || l.Verified != "" {
			t.Errorf("line %+v", l)
		}
		j.at(time.Hour)
		j.wantState(status.Warning, status.ReasonCorrupt, "2 snapshots are damaged")
		for _, m := range ms[:2] {
			if err := c.Delete(testContext(t), m.ID); err != nil {
				t.Fatal(err)
			}
		}
		j.at(2 * time.Hour)
		j.wantState(status.OK, "", "2 snapshots, the last is "+ms[2].ID)
		j.wantMetrics(map[string]float64{"damaged_snapshots": 0})
	})
}

// After a snapshot was taken the job says no more of itself than changes: damage
// that another pod has found is one.
func TestJobTellsOfDamageFoundElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "0 1 * * *", func(o *Options) { o.Retention.Last = 5 })
		c := newTestCatalogue(t, j.store)
		m := putReal(t, c, j.start.Add(-time.Hour))
		j.run()
		j.at(2 * time.Hour)
		j.wantState(status.OK, "", "snapshot 2000")
		good, err := c.Verification(testContext(t), m.ID)
		if err != nil || good != nil {
			t.Fatalf("%v, %v", good, err)
		}
		v := Verification{VerifiedAt: time.Now().UTC(), Level: LevelFull, Damage: "sha256", Tool: "test", ObjectSHA256: m.Object.SHA256}
		if err := c.record(testContext(t), m.ID, v); err != nil {
			t.Fatal(err)
		}
		j.at(2*time.Hour + 11*time.Minute)
		j.wantState(status.Warning, status.ReasonCorrupt, "snapshot "+m.ID+" is damaged, and none has passed a verification")
		if err := c.Delete(testContext(t), m.ID); err != nil {
			t.Fatal(err)
		}
		j.at(2*time.Hour + 22*time.Minute)
		j.wantState(status.OK, "", "no snapshot in the store is known to be damaged")
	})
}

// A store that fails says nothing about a snapshot; it is tried again, later and
// later.
func TestJobVerifyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "@every 24h", nil)
		c := newTestCatalogue(t, j.store)
		m := putReal(t, c, j.start.Add(-time.Hour))
		var tries atomic.Int32
		var back atomic.Bool
		j.store.before = func(op, key string) error {
			if op == "get" && key == c.ObjectKey(m) && !back.Load() {
				tries.Add(1)
				return status.WithReason(status.ReasonStoreUnreachable, errors.New("connection reset"))
			}
			return nil
		}
		j.run()
		j.at(time.Minute)
		j.wantState(status.Warning, status.ReasonStoreUnreachable, "the last verification failed: verify: snapshot "+m.ID+": connection reset")
		j.at(6 * time.Hour)
		if n := tries.Load(); n < 4 || n > 7 {
			t.Errorf("%d tries in 6 hours", n)
		}
		if n := len(j.verified()); n != 0 {
			t.Errorf("%d records", n)
		}
		back.Store(true)
		j.at(13 * time.Hour)
		j.wantState(status.OK, "", "1 snapshots, the last is "+m.ID)
		j.wantMetrics(map[string]float64{`verifications_total{result="failed"}`: float64(tries.Load()), `verifications_total{result="passed"}`: 1})
	})
}

// Credentials that may not write records do not make it verify without end.
func TestJobVerifyCannotRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "@every 24h", nil)
		putReal(t, newTestCatalogue(t, j.store), j.start.Add(-time.Hour))
		j.store.before = takesNoRecord
		j.run()
		j.at(3 * time.Hour)
		j.wantState(status.Warning, status.ReasonStoreDenied, "verified, but not recorded")
		j.wantMetrics(map[string]float64{`verifications_total{result="passed"}`: 1})
	})
}

// Without a schedule nothing is verified; without a snapshot there is nothing to.
func TestJobVerifyOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "0 0 31 12 *", nil)
		putReal(t, newTestCatalogue(t, j.store), j.start.Add(-time.Hour))
		j.run()
		j.at(72 * time.Hour)
		if n := len(j.verified()); n != 0 {
			t.Errorf("%d were verified", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		j := newVerifyJob(t, "@every 24h", nil)
		j.run()
		j.at(time.Hour)
		j.wantState(status.OK, "", "no snapshot yet")
		m := putReal(t, newTestCatalogue(t, j.store), time.Now())
		j.at(time.Hour + 11*time.Minute)
		if _, ok := j.verified()[m.ID]; !ok {
			t.Error("the first snapshot was not verified soon")
		}
	})
}
