package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// testJob runs a job whose snapshots are made up, in synthetic time. Times are
// those after the start.
type testJob struct {
	*Job
	t     *testing.T
	store *hookedStore
	board *status.Board
	log   *testenv.Log
	start time.Time
	hurry chan struct{}
	stop  func() // ends the context of Run and waits for its end

	server atomic.Pointer[func() (standing, error)] // what it says of itself

	mu    sync.Mutex
	taken []time.Duration // when snapshots were begun
	fail  func(n int) error
	takes time.Duration // how long one lasts
	keys  uint64
}

// newTestJob must be called in a synctest bubble. change may be nil.
func newTestJob(t *testing.T, schedule string, change func(*Options)) *testJob {
	t.Helper()
	plan, err := ParseSchedule(schedule)
	if err != nil {
		t.Fatal(err)
	}
	dir, _ := dirStore(t)
	j := &testJob{t: t, store: &hookedStore{Store: dir}, log: &testenv.Log{}, start: time.Now(), hurry: make(chan struct{}), keys: 1}
	j.board = status.NewBoard(slog.New(slog.NewTextHandler(j.log, nil)), nil)
	opts := Options{Snapshot: SnapshotOptions{Instance: "test", Pod: "redis-0", Tool: "test"}, Schedule: plan}
	if change != nil {
		change(&opts)
	}
	open := func(context.Context) (Store, error) { return j.store, nil }
	if j.Job, err = New(opts, noServer{}, open, j.board.Register(status.Backup, Reasons()...)); err != nil {
		t.Fatal(err)
	}
	j.stands("master", 0, nil)
	j.stand = func(context.Context) (standing, error) { return (*j.server.Load())() }
	j.take = func(ctx context.Context, progress func(Progress)) (Manifest, error) {
		began := time.Now()
		j.mu.Lock()
		j.taken = append(j.taken, time.Since(j.start))
		n := len(j.taken)
		j.mu.Unlock()
		progress(Progress{Phase: PhaseSave, Plain: 1})
		if err := sleep(ctx, j.takes); err != nil {
			return Manifest{}, err
		}
		if j.fail != nil {
			if err := j.fail(n); err != nil {
				return Manifest{}, fmt.Errorf("snapshot: %w", err)
			}
		}
		m := testManifest(began, j.keys)
		putSnapshot(t, j.snapshotter.catalogue, m) //nolint:contextcheck // a fixture
		return m, nil
	}
	return j
}

// run starts the job; the bubble's cleanup stops it.
func (j *testJob) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- j.Run(ctx, j.hurry) }()
	j.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			j.t.Errorf("Run: %v", err)
		}
	})
	j.t.Cleanup(j.stop)
	synctest.Wait()
}

// at lets time pass until then after the start.
func (j *testJob) at(d time.Duration) {
	if left := time.Until(j.start.Add(d)); left > 0 { // a timer that is due at once crashes the race detector in a bubble (Go 1.26)
		<-time.After(left) // synthetic: it takes no time
	}
	synctest.Wait()
}

// begun returns when snapshots were begun.
func (j *testJob) begun() []time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.taken)
}

func (j *testJob) wantTaken(want ...time.Duration) {
	j.t.Helper()
	synctest.Wait() // a request is answered just before its snapshot begins
	if diff := cmp.Diff(want, j.begun()); diff != "" {
		j.t.Errorf("snapshots were begun after (-want +got):\n%s", diff)
	}
}

// lastKeys is the metric of that name.
func (j *testJob) lastKeys() float64 {
	j.t.Helper()
	n, ok := testenv.Metrics(j.t, NewMetrics(j.Job))["redis_sidecar_backup_last_keys"]
	if !ok {
		j.t.Fatal("no redis_sidecar_backup_last_keys")
	}
	return n
}

// failures is how many of the job were counted with that reason.
func (j *testJob) failures(reason status.Reason) float64 {
	j.t.Helper()
	return testenv.Metrics(j.t, status.NewMetrics(j.board))[`redis_sidecar_job_failures_total{name="backup",reason="`+string(reason)+`"}`]
}

func (j *testJob) report() status.Report {
	r, _ := j.board.Report(status.Backup)
	return r
}

func (j *testJob) wantState(state status.State, reason status.Reason, message string) {
	j.t.Helper()
	r := j.report()
	if r.State != state || r.Reason != reason || !strings.Contains(r.Message, message) {
		j.t.Errorf("%s %s %q, want %s %s …%q…", r.State, r.Reason, r.Message, state, reason, message)
	}
}

// Synthetic time begins at midnight UTC, 2000-01-01.
func TestJobSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "30 */2 * * *", func(o *Options) { o.Retention.Last = 3 })
		j.run()
		j.wantState(status.OK, "", "no snapshot yet")
		if got, want := j.report().NextRun.Sub(j.start), 30*time.Minute; got != want {
			t.Errorf("next run after %s, want %s", got, want)
		}
		j.at(9 * time.Hour)
		h := time.Hour
		j.wantTaken(h/2, 2*h+h/2, 4*h+h/2, 6*h+h/2, 8*h+h/2)
		j.wantState(status.OK, "", "snapshot 20000101T083000Z-redis-0-")
		r := j.report()
		if got, want := r.NextRun.Sub(j.start), 10*h+h/2; got != want {
			t.Errorf("next run after %s, want %s", got, want)
		}
		d := r.Detail.(Detail)
		if d.Count != 3 || len(d.Snapshots) != 3 || d.Snapshots[0].Keys != 1 || d.Snapshots[0].Time.Sub(j.start) != 8*h+h/2 || d.Running != nil {
			t.Errorf("detail %+v", d)
		}
		if !strings.HasPrefix(d.Store, "file:///") || d.Instance != "test" || d.Schedule != "30 */2 * * *" {
			t.Errorf("detail %+v", d)
		}
		if n := strings.Count(j.log.String(), "deleted by retention"); n != 2 {
			t.Errorf("%d deletions in the log, want 2:\n%s", n, j.log)
		}
	})
}

func TestJobJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.Jitter = 10 * time.Minute })
		j.run()
		j.at(20*time.Hour + 30*time.Minute)
		taken := j.begun()
		if len(taken) != 20 {
			t.Fatalf("%d runs in 20 h", len(taken))
		}
		apart := map[time.Duration]bool{}
		for i, at := range taken {
			late := at - time.Duration(i+1)*time.Hour
			if late < 0 || late >= 10*time.Minute {
				t.Errorf("run %d is %s late", i, late)
			}
			apart[late] = true
		}
		if len(apart) < 10 {
			t.Errorf("%d different delays", len(apart))
		}
	})
}

// A failure is repeated after longer and longer pauses, and at the schedule's
// time anyway.
func TestJobRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "0 */6 * * *", nil)
		j.fail = func(n int) error {
			if n < 8 {
				return status.WithReason(status.ReasonSave, errors.New("the save failed"))
			}
			return nil
		}
		j.run()
		j.at(6*time.Hour + time.Second)
		j.wantState(status.Failing, status.ReasonSave, "snapshot: the save failed")
		if d := j.report().Detail.(Detail); d.LastFailure != "snapshot: the save failed" || d.RetryAt.Before(time.Now()) || d.RetryAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("detail %+v", d)
		}
		if log := j.log.String(); !strings.Contains(log, `msg="it is tried again" job=backup at=`) || strings.Contains(log, "it failed again") {
			t.Errorf("log of the first failure:\n%s", log)
		}
		j.at(11 * time.Hour)
		j.wantState(status.OK, "", "snapshot 2000")
		if d := j.report().Detail.(Detail); d.LastFailure != "" || !d.RetryAt.IsZero() {
			t.Errorf("detail %+v", d)
		}
		log := j.log.String()
		if n := strings.Count(log, `msg="it failed again" job=backup`); n != 6 || !strings.Contains(log, `failures=7 reason=save_failed error="snapshot: the save failed" next_try=`) {
			t.Errorf("%d lines of further failures, want 6:\n%s", n, log)
		}
		if n := strings.Count(log, `msg="a snapshot was stored" job=backup snapshot=`); n != 1 {
			t.Errorf("%d lines of stored snapshots, want 1:\n%s", n, log)
		}
		taken := j.begun()
		if len(taken) != 8 {
			t.Fatalf("%d runs: %v", len(taken), taken)
		}
		most := time.Minute
		for i := 1; i < len(taken); i++ {
			if pause := taken[i] - taken[i-1]; pause < most/2 || pause > most+time.Millisecond {
				t.Errorf("pause %d is %s, want %s to %s", i, pause, most/2, most)
			}
			most = min(2*most, 30*time.Minute)
		}
		j.at(12*time.Hour + time.Second)
		if n := len(j.begun()); n != 9 {
			t.Errorf("%d runs after the next time of the schedule, want 9", n)
		}
	})
}

func TestJobScheduleGoesOnWhileFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.RetryMin, o.RetryMax = 10*time.Hour, 10*time.Hour })
		j.fail = func(int) error { return errors.New("no") }
		j.run()
		j.at(3*time.Hour + time.Second)
		j.wantTaken(time.Hour, 2*time.Hour, 3*time.Hour)
	})
}

// After a save that makes the server refuse writes, the next try is soon.
func TestJobRetriesSoonWhenWritesAreRefused(t *testing.T) {
	j := &Job{opts: Options{RetryMin: time.Minute, RetryMax: time.Hour}}
	plain := errors.New("x")
	for range 100 {
		if d := j.backoff(0, facts{savePoints: true}.saveFailed("", plain)); d > 10*time.Second || d < 5*time.Second {
			t.Errorf("pause %s, want 5 to 10 s", d)
		}
		if d := j.backoff(0, facts{}.saveFailed("", plain)); d > time.Minute || d < 30*time.Second {
			t.Errorf("pause %s, want 30 to 60 s", d)
		}
		if d := j.backoff(1000, plain); d > time.Hour || d < time.Hour/2 {
			t.Errorf("pause %s after many failures", d)
		}
	}
}

// What comes due while a run lasts is left out, and said.
func TestJobSkipsWhatItMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "*/10 * * * *", nil)
		j.takes = 35 * time.Minute
		j.run()
		j.at(15 * time.Minute)
		if d := j.report().Detail.(Detail); d.Running == nil || d.Running.Phase != PhaseSave {
			t.Errorf("running: %+v", d.Running)
		}
		j.at(85 * time.Minute)
		j.wantTaken(10*time.Minute, 50*time.Minute)
		if want := `runs were skipped: what was done before them took too long" job=backup runs=3 took=35m0s`; !strings.Contains(j.log.String(), want) {
			t.Errorf("not in the log: %s\n%s", want, j.log)
		}
	})
}

// The store is away at the start: reported at once, and seen when it is back.
func TestJobStoreAwayAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "0 23 * * *", nil)
		var away atomic.Bool
		j.store.before = func(string, string) error {
			if away.Load() {
				return status.WithReason(status.ReasonStoreUnreachable, errors.New("connection refused"))
			}
			return nil
		}
		m := testManifest(j.start.Add(-time.Hour), 5)
		putSnapshot(t, newTestCatalogue(t, j.store), m)
		away.Store(true)
		j.run()
		j.wantState(status.Failing, status.ReasonStoreUnreachable, "list snapshots: connection refused")
		away.Store(false)
		j.at(2 * time.Minute)
		j.wantState(status.OK, "", "1 snapshots, the last is "+m.ID)
		j.wantTaken()
		if got := j.lastKeys(); got != 5 {
			t.Errorf("last keys %v", got)
		}
	})
}

// Between the runs the job notices what others put into the store, and that the
// store is gone.
func TestJobReadsTheCatalogueBetweenRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@daily", nil)
		var away atomic.Bool
		j.store.before = func(string, string) error {
			if away.Load() {
				return status.WithReason(status.ReasonStoreUnreachable, errors.New("connection refused"))
			}
			return nil
		}
		j.run()
		j.wantState(status.OK, "", "no snapshot yet")
		m := testManifest(j.start.Add(-time.Hour), 5)
		putSnapshot(t, newTestCatalogue(t, j.store), m)
		j.at(11 * time.Minute)
		j.wantState(status.OK, "", "1 snapshots, the last is "+m.ID)

		j.at(25 * time.Hour)
		j.wantTaken(24 * time.Hour)
		j.wantState(status.OK, "", "snapshot 20000102T000000Z-redis-0-") // not that it looked since
		away.Store(true)
		j.at(25*time.Hour + 11*time.Minute)
		j.wantState(status.Failing, status.ReasonStoreUnreachable, "connection refused")
		away.Store(false)
		j.at(26 * time.Hour)
		j.wantState(status.OK, "", "2 snapshots, the last is ")
		j.wantTaken(24 * time.Hour)
	})
}

// open fails at first, as with a CA file that is not there yet.
func TestJobStoreCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", nil)
		n := 0
		j.open = func(context.Context) (Store, error) {
			if n++; n < 3 {
				return nil, status.WithReason(status.ReasonFile, errors.New("no CA file"))
			}
			return j.store, nil
		}
		j.run()
		j.wantState(status.Failing, status.ReasonFile, "open store: no CA file")
		j.at(30 * time.Minute)
		j.wantState(status.OK, "", "no snapshot yet")
	})
}

// An @every schedule goes on from the last snapshot, not from the start.
func TestJobEveryGoesOn(t *testing.T) {
	tests := []struct {
		age  time.Duration // of the last snapshot; 0: none
		want []time.Duration
	}{
		{0, []time.Duration{6 * time.Hour, 12 * time.Hour}},
		{4 * time.Hour, []time.Duration{2 * time.Hour, 8 * time.Hour}},
		{10 * time.Hour, []time.Duration{0, 6 * time.Hour, 12 * time.Hour}},
		{-time.Hour, []time.Duration{7 * time.Hour, 13 * time.Hour}}, // a clock that was set back
	}
	for _, tt := range tests {
		t.Run(tt.age.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJob(t, "@every 6h", nil)
				if tt.age != 0 {
					putSnapshot(t, newTestCatalogue(t, j.store), testManifest(j.start.Add(-tt.age), 1))
				}
				j.run()
				j.at(13 * time.Hour)
				j.wantTaken(tt.want...)
			})
		})
	}
}

// Another role's turn is no failure; the catalogue is followed all the same.
func TestJobStandsBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", nil)
		j.fail = func(int) error {
			return fmt.Errorf("%w: it is a replica, snapshots are taken of the master", ErrStandby)
		}
		j.run()
		m := testManifest(j.start.Add(30*time.Minute), 9)
		putSnapshot(t, newTestCatalogue(t, j.store), m)
		j.at(time.Hour + time.Second)
		j.wantState(status.OK, "", "standing by: snapshot: no snapshot is taken of this server: it is a replica, snapshots are taken of the master")
		if d := j.report().Detail.(Detail); d.Count != 1 || d.Snapshots[0].ID != m.ID {
			t.Errorf("detail %+v", d)
		}
	})
}

// The snapshot counts, what was left undone after it is a warning.
func TestJobRetentionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.Retention.Last = 1 })
		j.store.before = func(op, _ string) error {
			if op == "delete" {
				return status.WithReason(status.ReasonStoreDenied, errors.New("access denied"))
			}
			return nil
		}
		j.run()
		j.at(2*time.Hour + time.Second)
		j.wantState(status.Warning, status.ReasonRetention, "; but prune: delete snapshot 20000101T010000Z-redis-0-")
		j.wantTaken(time.Hour, 2*time.Hour)
		if got := j.lastKeys(); got != 1 {
			t.Errorf("last keys %v", got)
		}
		if r := j.report(); time.Since(r.LastSuccess) > time.Minute {
			t.Errorf("last success %s", r.LastSuccess)
		}
	})
}

func TestJobWarnsOfEmptySnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.Retention.Last = 2 })
		good := testManifest(j.start.Add(-time.Hour), 100)
		putSnapshot(t, newTestCatalogue(t, j.store), good)
		j.keys = 0
		j.run()
		j.at(5*time.Hour + time.Second)
		j.wantState(status.Warning, status.ReasonRetention, "; but no newer snapshot holds keys, so the retention keeps "+good.ID)
		if d := j.report().Detail.(Detail); d.Count != 3 {
			t.Errorf("%d snapshots", d.Count)
		}
	})
}

func TestJobWarnsOfSnapshotsOfTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", func(o *Options) { o.Retention.Last = 2 })
		future := testManifest(j.start.AddDate(1, 0, 0), 100)
		putSnapshot(t, newTestCatalogue(t, j.store), future)
		j.run()
		j.at(5*time.Hour + time.Second)
		j.wantState(status.Warning, status.ReasonRetention, "; but 1 snapshots are dated in the future and hide it from a restore of the latest: check the clocks, then delete them by hand; the first is "+future.ID)
		if d := j.report().Detail.(Detail); d.Count != 3 {
			t.Errorf("%d snapshots", d.Count)
		}
		// It is not taken for a new one by who looks at the age of the last.
		j.mu.Lock()
		last := j.last
		j.mu.Unlock()
		if age := time.Since(last.CreatedAt); age < 0 || age > time.Minute {
			t.Errorf("the last snapshot is %s, %s old", last.ID, age)
		}
	})
}

// A stop in the middle of a snapshot ends at once and is no failure.
func TestJobStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", nil)
		j.takes = 10 * time.Minute
		j.run()
		j.at(time.Hour + time.Minute)
		j.stop()
		if took := time.Since(j.start); took != time.Hour+time.Minute {
			t.Errorf("the stop took %s", took-time.Hour-time.Minute)
		}
		j.wantState(status.OK, "", "no snapshot yet")
	})
}

// With Drain a snapshot in progress may be finished, if nobody hurries.
func TestJobDrains(t *testing.T) {
	tests := []struct {
		name   string
		drain  time.Duration
		hurry  time.Duration // after the stop; 0: not
		want   time.Duration // from the stop to the end
		stored int
	}{
		{"long enough", 30 * time.Minute, 0, 9 * time.Minute, 1},
		{"too short", 5 * time.Minute, 0, 5 * time.Minute, 0},
		{"hurried", 30 * time.Minute, 2 * time.Minute, 2 * time.Minute, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJob(t, "@hourly", func(o *Options) { o.Drain = tt.drain })
				j.takes = 10 * time.Minute
				j.run()
				j.at(time.Hour + time.Minute)
				if tt.hurry > 0 {
					time.AfterFunc(tt.hurry, func() { close(j.hurry) })
				}
				j.stop()
				if took := time.Since(j.start) - time.Hour - time.Minute; took != tt.want {
					t.Errorf("the stop took %s, want %s", took, tt.want)
				}
				if ids, err := newTestCatalogue(t, j.store).IDs(context.Background()); err != nil || len(ids) != tt.stored {
					t.Errorf("snapshots %v, %v, want %d", ids, err, tt.stored)
				}
				if r := j.report(); r.State != status.OK {
					t.Errorf("state %s: %s", r.State, r.Message)
				}
			})
		})
	}
}

func TestJobDamagedManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@hourly", nil)
		c := newTestCatalogue(t, j.store)
		good := testManifest(j.start.Add(-2*time.Hour), 7)
		putSnapshot(t, c, good)
		put(t, j.store, c.manifestKey(NewID(j.start.Add(-time.Hour), "x")), "{")
		j.run()
		d := j.report().Detail.(Detail)
		if len(d.Snapshots) != 2 || !strings.Contains(d.Snapshots[0].Error, "not a manifest") || d.Snapshots[1].ID != good.ID {
			t.Errorf("snapshots %+v", d.Snapshots)
		}
		if got := j.lastKeys(); got != 7 {
			t.Errorf("last keys %v, want those of the last one that can be read", got)
		}
		if b, err := json.Marshal(d); err != nil || !strings.Contains(string(b), `"snapshots":[{"id":"1999`) {
			t.Errorf("%s, %v", b, err)
		}
	})
}

func TestNewJobBadOptions(t *testing.T) {
	rep := status.NewBoard(slog.New(slog.DiscardHandler), nil).Register(status.Backup)
	if _, err := New(Options{Snapshot: SnapshotOptions{Instance: "a"}}, nil, nil, rep); err == nil || err.Error() != "backup: no schedule" {
		t.Errorf("no schedule: %v", err)
	}
	daily, err := ParseSchedule("@daily")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Schedule: daily}, nil, nil, rep); err == nil || err.Error() != "backup: instance is empty" {
		t.Errorf("no instance: %v", err)
	}
}

// All series are there from the start, and after a snapshot of a real server they
// say what the manifest says.
func TestJobMetrics(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 100, 10)
	s, _ := dirStore(t)
	daily, err := ParseSchedule("@daily")
	if err != nil {
		t.Fatal(err)
	}
	board := status.NewBoard(slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	j, err := New(Options{Snapshot: SnapshotOptions{Instance: "test"}, Schedule: daily}, r.Client(t),
		func(context.Context) (Store, error) { return s, nil }, board.Register(status.Backup, Reasons()...))
	if err != nil {
		t.Fatal(err)
	}
	compare := func(duration, keys, plain, stored, created, snapshots float64, mode LeaseMode) {
		t.Helper()
		want := map[string]float64{
			"redis_sidecar_backup_last_compression_ratio":                            0,
			"redis_sidecar_backup_last_duration_seconds":                             duration,
			"redis_sidecar_backup_last_keys":                                         keys,
			`redis_sidecar_backup_last_size_bytes{kind="plain"}`:                     plain,
			`redis_sidecar_backup_last_size_bytes{kind="stored"}`:                    stored,
			"redis_sidecar_backup_last_success_timestamp_seconds":                    created,
			"redis_sidecar_backup_lease_held":                                        0,
			`redis_sidecar_backup_lease_info{holder="",mode="` + string(mode) + `"}`: 1,
			"redis_sidecar_backup_leftover_bytes":                                    0,
			"redis_sidecar_backup_writes_refused":                                    0,
			"redis_sidecar_backup_running":                                           0,
			`redis_sidecar_backup_runs_total{trigger="missed"}`:                      0,
			`redis_sidecar_backup_runs_total{trigger="request"}`:                     0,
			`redis_sidecar_backup_runs_total{trigger="schedule"}`:                    snapshots,
			`redis_sidecar_backup_runs_total{trigger="shutdown"}`:                    0,
			`redis_sidecar_backup_runs_total{trigger="start"}`:                       0,
			"redis_sidecar_backup_skipped_runs_total":                                0,
			"redis_sidecar_backup_snapshots":                                         snapshots,
			`redis_sidecar_backup_taken_total{source="bgsave"}`:                      snapshots,
			`redis_sidecar_backup_taken_total{source="stream"}`:                      0,
		}
		if stored > 0 {
			want["redis_sidecar_backup_last_compression_ratio"] = plain / stored
		}
		got := testenv.Metrics(t, NewMetrics(j))
		sum := 0.0
		for _, phase := range phaseLabels() {
			series := `redis_sidecar_backup_last_run_phase_seconds{phase="` + phase + `"}`
			took, ok := got[series]
			if !ok || (took > 0) != (snapshots > 0) {
				t.Errorf("%s %v", series, took)
			}
			if phase != phaseTotal {
				sum += took
			} else if sum < 0.99*took || sum > 1.01*took {
				t.Errorf("the phases add up to %v, the total is %v", sum, took)
			}
			delete(got, series)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	compare(0, 0, 0, 0, 0, 0, LeaseUnknown)
	if err := j.run(testContext(t), &turn{trigger: TriggerSchedule, tick: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m, err := newTestCatalogue(t, s).Find(testContext(t), "latest")
	if err != nil {
		t.Fatal(err)
	}
	compare(m.Durations.Total, 100, float64(m.RDB.Size), float64(m.Object.Size), float64(m.CreatedAt.UnixMilli())/1000, 1, LeaseConditional)
}
