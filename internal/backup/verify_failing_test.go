package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func saveFails(int) error { return status.WithReason(status.ReasonSave, errors.New("the save failed")) }

// recordScheduled writes down that a snapshot was verified by schedule at that time.
func recordScheduled(tb testing.TB, c *Catalogue, m Manifest, at time.Time) {
	tb.Helper()
	v := Verification{VerifiedAt: at.UTC().Truncate(time.Millisecond), Level: LevelFull, Tool: "test", Scheduled: true, ObjectSHA256: m.Object.SHA256}
	if err := c.record(testContext(tb), m.ID, v); err != nil {
		tb.Fatal(err)
	}
}

// A real server that refuses to save: what is in the store is verified at its time.
func TestJobVerifiesWhileTheServerRefusesToSave(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 100, 10)
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	r.Do(t, "ACL", "SETUSER", "default", "-bgsave")

	c := newTestCatalogue(t, s)
	const day = 24 * time.Hour
	recordScheduled(t, c, m, time.Now().Add(3*time.Second-day)) // it is due in 3 s
	plan, err := ParseSchedule("@every 24h")
	if err != nil {
		t.Fatal(err)
	}
	board := status.NewBoard(slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	j, err := New(Options{
		Snapshot: SnapshotOptions{Instance: "test", Source: SourceBGSave}, Schedule: plan, Verify: VerifyPlan{Schedule: plan},
		RetryMin: time.Second, RetryMax: time.Second,
	}, r.Client(t), func(context.Context) (Store, error) { return s, nil }, board.Register(status.Backup, Reasons()...))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error)
	go func() { ended <- j.Run(ctx, nil) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	askHandler(t, NewRequestHandler(j, RequestOptions{}), "POST", "/backup?wait=30s", nil).want(t, 503, "failed", status.ReasonNoPerm, "BGSAVE")
	testenv.Eventually(t, 30*time.Second, func() error {
		v, err := c.Verification(ctx, m.ID)
		if err == nil && time.Since(v.VerifiedAt) > time.Hour {
			return fmt.Errorf("last verified %s", v.VerifiedAt)
		}
		return err
	})
	tries := func() float64 {
		return testenv.Metrics(t, NewMetrics(j))[`redis_sidecar_backup_runs_total{trigger="request"}`]
	}
	n := tries()
	testenv.Eventually(t, 30*time.Second, func() error { // it goes on trying
		if tries() < n+2 {
			return fmt.Errorf("%v tries", tries())
		}
		return nil
	})
	if got := testenv.Metrics(t, NewVerifyMetrics(j))["redis_sidecar_backup_last_verified_timestamp_seconds"]; got != float64(m.CreatedAt.Unix()) {
		t.Errorf("last verified %v, want that of %s", got, m.ID)
	}
	if rep, _ := board.Report(status.Backup); rep.State != status.Failing || rep.Reason != status.ReasonNoPerm {
		t.Errorf("%s %s %q", rep.State, rep.Reason, rep.Message)
	}
}

// While snapshots fail, verifications take place between the tries, which wait for
// none of them.
func TestJobVerifiesBetweenTries(t *testing.T) {
	tests := []struct {
		name        string
		due         time.Duration // the verification
		takes       time.Duration
		want        time.Duration // when it is done, at the latest; 0: never
		interrupted string        // in the log
	}{
		{"at its time", 4 * time.Hour, 10 * time.Minute, 5 * time.Hour, ""},
		{"while the pauses are still short", time.Hour - 5*time.Minute, 12 * time.Minute, 2 * time.Hour, "it begins anew"},
		{"longer than any pause", 2 * time.Hour, time.Hour, 0, "interrupted 3 times in a row"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j, m := newSlowVerifyJob(t, "0 1 1 1 *", nil) // 01:00, then in a year
				j.store.Store = slowStore{j.store.Store.(slowStore).Store, tt.takes}
				j.fail = saveFails
				recordScheduled(t, newTestCatalogue(t, j.store), m, j.start.Add(tt.due-24*time.Hour))
				j.run()
				j.at(12 * time.Hour)

				most := time.Minute
				taken := j.begun()
				for i := 1; i < len(taken); i++ {
					if pause := taken[i] - taken[i-1]; pause < most/2 || pause > most+time.Millisecond {
						t.Errorf("pause %d is %s, want %s to %s", i, pause, most/2, most)
					}
					most = min(2*most, 30*time.Minute)
				}
				if len(taken) < 20 || taken[0] != time.Hour {
					t.Errorf("tries after %v", taken)
				}
				at := j.verified()[m.ID]
				if tt.want == 0 && at > 0 || tt.want > 0 && (at < tt.due+tt.takes || at > tt.want) {
					t.Errorf("verified after %s, want %s at the latest", at, tt.want)
				}
				if tt.want > 0 {
					j.wantMetrics(map[string]float64{
						`verifications_total{result="passed"}`: 1, `verifications_total{result="failed"}`: 0, "last_verified_timestamp_seconds": float64(m.CreatedAt.Unix()),
					})
				}
				if log := j.log.String(); !strings.Contains(log, tt.interrupted) {
					t.Errorf("log:\n%s", log)
				}
				j.wantState(status.Failing, status.ReasonSave, "the save failed")
				j.at(12*time.Hour + 15*time.Minute) // whatever it does meanwhile
				j.wantState(status.Failing, status.ReasonSave, "the save failed")
			})
		})
	}
}

// Damage that is found while snapshots fail is counted and shown, but what is said of
// the job is that they fail; when they succeed, it is not forgotten.
func TestJobFindsDamageWhileSnapshotsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, m := newSlowVerifyJob(t, "0 1 1 1 *", nil)
		c := newTestCatalogue(t, j.store)
		put(t, j.store, c.ObjectKey(m), strings.Repeat("y", int(m.Object.Size)))
		j.store.Store = slowStore{j.store.Store.(slowStore).Store, time.Minute}
		j.fail = func(n int) error {
			if n < 20 {
				return saveFails(n)
			}
			return nil
		}
		recordScheduled(t, c, m, j.start.Add(-20*time.Hour))
		j.run()
		j.at(4 * time.Hour)
		for len(j.report().Detail.(Detail).Snapshots[0].Error) == 0 && time.Since(j.start) < 5*time.Hour {
			j.wantState(status.Failing, status.ReasonSave, "the save failed")
			j.at(time.Since(j.start) + time.Second)
		}
		j.wantMetrics(map[string]float64{"damaged_snapshots": 1, `verifications_total{result="damaged"}`: 1})
		if n := j.failures(status.ReasonCorrupt); n != 1 {
			t.Errorf("%v failures of reason corrupt", n)
		}
		j.wantState(status.Failing, status.ReasonSave, "the save failed")
		if log := j.log.String(); strings.Count(log, "a snapshot in the store is damaged") != 1 {
			t.Errorf("log:\n%s", log)
		}
		j.at(20 * time.Hour)
		j.wantState(status.Warning, status.ReasonCorrupt, "; but snapshot "+m.ID+" is damaged")
	})
}

// While the store is away, each try counts once, also when a verification is due.
func TestJobFailsOncePerTryOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j, m := newSlowVerifyJob(t, "0 1 1 1 *", nil) // 01:00, then in a year
		c := newTestCatalogue(t, j.store)
		j.store.Store = slowStore{j.store.Store.(slowStore).Store, time.Minute}
		recordScheduled(t, c, m, j.start.Add(-23*time.Hour)) // due when the first try is
		var away atomic.Bool
		j.store.before = func(string, string) error {
			if away.Load() {
				return status.WithReason(status.ReasonStoreUnreachable, errors.New("the store is away"))
			}
			return nil
		}
		var tries atomic.Int64
		j.says(func() (standing, error) {
			tries.Add(1)
			return standing{role: "master"}, nil
		})
		j.run()
		j.at(59 * time.Minute)
		away.Store(true)
		j.at(8 * time.Hour)
		n := j.failures(status.ReasonStoreUnreachable)
		if tries.Load() < 10 || n != float64(tries.Load()) {
			t.Errorf("%v failures of %d tries", n, tries.Load())
		}
		j.wantState(status.Failing, status.ReasonStoreUnreachable, "the store is away")
		away.Store(false)
		j.at(9 * time.Hour)
		if at := j.verified()[m.ID]; at < 8*time.Hour {
			t.Errorf("verified after %s: not since the store is back", at)
		}
	})
}

// The catalogue is read while snapshots fail, too: others may have more luck.
func TestJobReadsTheCatalogueWhileSnapshotsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", nil)
		j.says(func() (standing, error) {
			return standing{}, status.WithReason(status.ReasonUnreachable, errors.New("connection refused"))
		})
		j.run()
		j.at(3*time.Hour + time.Minute)
		m := testManifest(time.Now(), 5)
		putSnapshot(t, newTestCatalogue(t, j.store), m)
		j.at(3*time.Hour + 20*time.Minute)
		j.wantState(status.Failing, status.ReasonUnreachable, "connection refused")
		if got := j.lastKeys(); got != 5 {
			t.Errorf("last keys %v", got)
		}
	})
}
