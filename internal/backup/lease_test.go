package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// newTestLease returns the lease of instance "test" for a process of that pod
// whose death nobody can see.
func newTestLease(tb testing.TB, s Store, pod string) *Lease {
	tb.Helper()
	l := NewLease(s, "test", LeaseOptions{Pod: pod, Log: slog.New(slog.NewTextHandler(tb.Output(), nil))})
	l.process = nil
	l.settles = 20 * time.Millisecond
	return l
}

func mustAcquire(tb testing.TB, l *Lease) *Hold {
	tb.Helper()
	h, err := l.Acquire(context.Background(), "a test")
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// wantHeld checks that a lease cannot be had, and who has it.
func wantHeld(tb testing.TB, l *Lease, by string) {
	tb.Helper()
	h, err := l.Acquire(context.Background(), "a test")
	if err == nil {
		h.Release()
		tb.Fatalf("%s got the lease, %s has it", l.holder, by)
	}
	held, ok := errors.AsType[*HeldError](err)
	if !ok || !errors.Is(err, ErrHeld) || held.Lease.Holder != by || !strings.Contains(err.Error(), by+" has the backup lease since ") {
		tb.Fatalf("error %v, want that %s has it", err, by)
	}
}

// ignoringStore is a real store that knows no conditional writes.
type ignoringStore struct{ Store }

func (s ignoringStore) PutIf(context.Context, string, []byte, string) (string, error) {
	return "", fmt.Errorf("put: %w", errors.ErrUnsupported)
}

// leaseStores runs a test in all kinds of stores.
func leaseStores(t *testing.T, test func(t *testing.T, s Store)) {
	t.Helper()
	t.Run("dir", func(t *testing.T) { s, _ := dirStore(t); test(t, s) })
	t.Run("s3", func(t *testing.T) { s, _ := s3Store(t); test(t, s) })
	t.Run("ignoring", func(t *testing.T) { s, _ := dirStore(t); test(t, ignoringStore{s}) })
}

func TestLease(t *testing.T) {
	leaseStores(t, func(t *testing.T, s Store) {
		a, b := newTestLease(t, s, "redis-0"), newTestLease(t, s, "redis-1")
		if st := a.State(); st.Mode != LeaseUnknown || st.Held {
			t.Errorf("state at first %+v", st)
		}
		h := mustAcquire(t, a)
		wantHeld(t, b, a.holder)
		if st := b.State(); st.Held || st.Record.Pod != "redis-0" || st.Record.Fence != 1 || st.Record.Purpose != "a test" {
			t.Errorf("state %+v", st)
		}
		h.Release()
		if h.Context().Err() == nil {
			t.Error("the context outlives the release")
		}
		if err := h.Err(context.Canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("a release is taken for a loss: %v", err)
		}
		h = mustAcquire(t, b)
		want := LeaseConditional
		if _, ok := s.(ignoringStore); ok {
			want = LeaseBestEffort
		}
		if st := b.State(); !st.Held || st.Record.Fence != 2 || st.Mode != want {
			t.Errorf("state %+v, want mode %s", st, want)
		}
		wantHeld(t, a, b.holder)
		h.Release()
		if st := b.State(); st.Held || st.Record.Holder != "" {
			t.Errorf("state %+v", st)
		}
		wantKeys(t, s, "test/lease.json")
	})
}

// Of many that ask at the same time one gets it. Where the store ignores
// conditions that is no promise, but holds for requests that are closer to each other
// than the time for which they settle: synthetic time passes when all have written.
func TestLeaseRace(t *testing.T) {
	race := func(t *testing.T, s Store) {
		t.Helper()
		const many, rounds = 8, 5
		for round := range rounds {
			var got atomic.Int32
			var wg sync.WaitGroup
			holds := make([]*Hold, many)
			for i := range many {
				l := newTestLease(t, s, fmt.Sprintf("redis-%d", i))
				l.settles = time.Second
				wg.Go(func() {
					h, err := l.Acquire(context.Background(), "a race")
					switch {
					case err == nil:
						got.Add(1)
						holds[i] = h
					case !errors.Is(err, ErrHeld):
						t.Errorf("%s: %v", l.holder, err)
					}
				})
			}
			wg.Wait()
			if got.Load() != 1 {
				t.Errorf("round %d: %d of %d have the lease", round, got.Load(), many)
			}
			for _, h := range holds {
				if h != nil {
					h.Release()
				}
			}
		}
	}
	t.Run("dir", func(t *testing.T) { s, _ := dirStore(t); race(t, s) })
	t.Run("s3", func(t *testing.T) { s, _ := s3Store(t); race(t, s) })
	t.Run("ignoring", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { s, _ := dirStore(t); race(t, ignoringStore{s}) })
	})
}

// A holder that lives keeps the lease however long it needs it; one that was
// killed keeps it for its TTL, from when it was first seen.
func TestLeaseRunsOut(t *testing.T) {
	for _, kind := range []string{"dir", "ignoring"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, _ := dirStore(t)
				var s Store = dir
				if kind == "ignoring" {
					s = ignoringStore{dir}
				}
				start := time.Now()
				pass := func(d time.Duration) { <-time.After(d) }
				var killed atomic.Bool
				dying := &hookedStore{Store: dir, before: func(string, string) error {
					if killed.Load() {
						return errors.New("this process is dead")
					}
					return nil
				}}
				a, b := newTestLease(t, dying, "redis-0"), newTestLease(t, s, "redis-1")
				h := mustAcquire(t, a)
				for range 20 {
					pass(time.Minute)
					wantHeld(t, b, a.holder)
				}
				if h.Context().Err() != nil {
					t.Fatalf("lost: %v", context.Cause(h.Context()))
				}
				pass(20 * time.Second) // one more renewal
				killed.Store(true)
				pass(10 * time.Minute)
				if err := h.Err(errors.New("x")); status.ReasonOf(err) != status.ReasonLease || !strings.Contains(err.Error(), "the backup lease was lost: it could not be renewed: ") {
					t.Errorf("the holder goes on: %v", err)
				}
				h.Release()

				// b has never seen this version before: its own clock decides.
				wantHeld(t, b, a.holder)
				pass(DefaultLeaseTTL - time.Second)
				wantHeld(t, b, a.holder)
				pass(time.Second)
				got := mustAcquire(t, b)
				if st := b.State(); st.Record.Fence != 2 {
					t.Errorf("fence %d", st.Record.Fence)
				}
				got.Release()
				t.Logf("%s of synthetic time", time.Since(start))
			})
		})
	}
}

// A holder that stood still finds somebody else in its place, and ends.
func TestLeaseTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := dirStore(t)
		a, b := newTestLease(t, s, "redis-0"), newTestLease(t, s, "redis-1")
		h := mustAcquire(t, a)
		// As if a had not renewed it for long: b replaces what it finds.
		rec, version, err := b.read(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		b.seen, b.since = version, time.Now().Add(-time.Hour)
		_ = rec
		other := mustAcquire(t, b)
		<-h.Context().Done()
		err = h.Err(errors.New("x"))
		if status.ReasonOf(err) != status.ReasonLease || !strings.Contains(err.Error(), "the backup lease was lost: "+b.holder+" has it") {
			t.Errorf("error %v", err)
		}
		h.Release() // which must not touch that of b
		wantHeld(t, a, b.holder)
		<-time.After(time.Hour)
		if other.Context().Err() != nil {
			t.Error("b lost it")
		}
		other.Release()
	})
}

// A process that stood still publishes nothing although nobody has told it yet that
// its lease has run out.
func TestLeaseLostBeforePublishing(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 100, 10)
	s, _ := dirStore(t)
	var stands atomic.Bool
	goOn := make(chan struct{})
	slow := &hookedStore{Store: s, before: func(op, _ string) error {
		if op == "put-if" && stands.Load() {
			<-goOn
		}
		return nil
	}}
	l := newLease(slow, "test/"+leaseName, LeaseOptions{Pod: "redis-0", TTL: 3 * time.Second})
	var during error
	err := l.Do(testContext(t), "a snapshot", func(ctx context.Context) error {
		_, err := newTestSnapshotter(t, r, slow).Snapshot(ctx, func(p Progress) {
			if p.Phase != PhasePublish || stands.Swap(true) {
				return
			}
			testenv.Eventually(t, 20*time.Second, func() error {
				if leaseLost(ctx) == nil {
					return errors.New("the lease has not run out")
				}
				return nil
			})
			during = ctx.Err()
		})
		close(goOn)
		return err
	})
	if !stands.Load() || during != nil {
		t.Fatalf("it did not come to publishing, or its context had ended: %v", during)
	}
	wantError(t, err, status.ReasonLease, "the backup lease was lost: ")
	if ids, err := newTestCatalogue(t, s).IDs(testContext(t)); err != nil || len(ids) > 0 {
		t.Errorf("published %v, %v", ids, err)
	}
}

// The answer to a renewal is lost, and the store is away for less than the TTL: the
// lease stays.
func TestLeaseSurvivesTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := dirStore(t)
		q := &lossyStore{Store: s}
		a := newTestLease(t, q, "redis-0")
		h := mustAcquire(t, a)
		for i := range 40 {
			q.lose.Store(i%4 == 0)
			q.away.Store(i%4 == 2)
			<-time.After(DefaultLeaseTTL / 4)
		}
		if h.Context().Err() != nil {
			t.Errorf("lost: %v", context.Cause(h.Context()))
		}
		q.lose.Store(true)
		h.Release()
		if rec, _, err := a.read(context.Background()); err != nil || rec.Holder != "" {
			t.Errorf("after the release: %+v, %v", rec, err)
		}
	})
}

// lossyStore writes and says that it did not, or is away.
type lossyStore struct {
	Store
	lose, away atomic.Bool
}

func (s *lossyStore) PutIf(ctx context.Context, key string, data []byte, version string) (string, error) {
	if s.away.Load() {
		return "", errors.New("connection refused")
	}
	v, err := s.Store.PutIf(ctx, key, data, version)
	if err == nil && s.lose.Swap(false) {
		return "", errors.New("connection reset")
	}
	return v, err
}

// What is no lease belongs to somebody unknown, and runs out as well.
func TestLeaseUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := dirStore(t)
		if _, err := s.PutIf(context.Background(), "test/lease.json", []byte("{\x00"), ""); err != nil {
			t.Fatal(err)
		}
		a := newTestLease(t, s, "redis-0")
		wantHeld(t, a, "somebody (lease.json cannot be read)")
		<-time.After(DefaultLeaseTTL)
		mustAcquire(t, a).Release()

		_, version, err := s.GetVersioned(context.Background(), "test/lease.json")
		if err != nil {
			t.Fatal(err)
		}
		evil := `{"holder":"a\u0000\n` + strings.Repeat("x", 500) + `","ttl_seconds":1e300,"fence":1}`
		if _, err := s.PutIf(context.Background(), "test/lease.json", []byte(evil), version); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, a, "a??"+strings.Repeat("x", 97))
		<-time.After(DefaultLeaseTTL)
		mustAcquire(t, a).Release()
	})
}

// A process of the same pod and machine that was killed is known to be gone at
// once; one that lives, or is of elsewhere, is not.
func TestLeaseOfADeadProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	me := thisProcess()
	if me == nil || me.dead(me) {
		t.Fatalf("this process is %+v", me)
	}
	start, gone := processStart(cmd.Process.Pid)
	other := &process{Boot: me.Boot, Namespace: me.Namespace, PID: cmd.Process.Pid, Start: start}
	if start == "" || gone || other.dead(me) {
		t.Fatalf("sleep is %+v, gone %v", other, gone)
	}
	s, _ := dirStore(t)
	a, same, elsewhere := newTestLease(t, s, "redis-0"), newTestLease(t, s, "redis-0"), newTestLease(t, s, "redis-1")
	a.process, same.process, elsewhere.process = other, me, me
	h := mustAcquire(t, a)
	defer h.cancel(nil)
	wantHeld(t, same, a.holder)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, func() error { // a zombie is gone, too
		if !other.dead(me) {
			return errors.New("it lives")
		}
		return nil
	})
	_ = cmd.Wait()
	wantHeld(t, elsewhere, a.holder)
	mustAcquire(t, same).Release()

	for name, p := range map[string]*process{
		"another boot":      {Boot: "x", Namespace: me.Namespace, PID: cmd.Process.Pid, Start: start},
		"another namespace": {Boot: me.Boot, Namespace: "x", PID: cmd.Process.Pid, Start: start},
		"no pid":            {Boot: me.Boot, Namespace: me.Namespace, Start: start},
		"nothing":           nil,
	} {
		if p.dead(me) {
			t.Errorf("%s: taken for dead", name)
		}
	}
	if reused := (&process{Boot: me.Boot, Namespace: me.Namespace, PID: me.PID, Start: "1"}); !reused.dead(me) {
		t.Error("a pid that was given again is taken for the process before")
	}
}

// A store that fails is an error of the store, and nobody's lease.
func TestLeaseStoreFails(t *testing.T) {
	s, _ := dirStore(t)
	for _, op := range []string{"get-versioned", "put-if"} {
		q := &hookedStore{Store: s, before: func(o, _ string) error {
			if o == op {
				return status.WithReason(status.ReasonStoreDenied, fs.ErrPermission)
			}
			return nil
		}}
		_, err := newTestLease(t, q, "redis-0").Acquire(context.Background(), "a test")
		wantError(t, err, status.ReasonStoreDenied, "lease: ")
	}
}
