package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var binary string

func TestMain(m *testing.M) {
	if done, code := otherwise(); done {
		os.Exit(code)
	}
	os.Exit(testenv.RunWithBinary(m, &binary))
}

// TestQuickRows runs rows of the table that take little time, as many as can be
// begun in 25 seconds, in another order each time, and a few rounds of the chaos
// test.
func TestQuickRows(t *testing.T) {
	ctx := t.Context()
	s := settings{binary: binary, quick: true, budget: 25 * time.Second, seed: uint64(time.Now().UnixNano()), log: t.Output()}
	t.Logf("seed %d", s.seed)
	tb, err := produce(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range tb.results {
		for _, v := range r.broken {
			t.Errorf("%s: %s: %s: %s\n%s", r.row.group, r.row.step, v.kind, v.text, tail(r.log))
		}
	}
	t.Logf("%d runs", tb.runs())
	for _, source := range []string{"bgsave", "stream"} {
		const rounds = 3
		if res := chaos(ctx, s, source, rounds); len(res.falses)+len(res.failures) > 0 || res.rounds != rounds {
			t.Errorf("chaos, %s: %d rounds: %q %q", source, res.rounds, res.falses, res.failures)
		}
	}
}

// The harness itself: what is wrong shows.
func TestWrongIsSeen(t *testing.T) {
	s := &sharedS3{}
	seen := func(kind violationKind, do func(*world)) {
		t.Helper()
		tr := &trial{name: "wrong", binary: binary, s3: s, random: seeded(1)}
		tr.run(t.Context(), func(tr *trial) {
			w := newWorld(tr, options{keys: 2, dir: tr.TempDir()})
			do(w)
		})
		for _, v := range tr.broken {
			if v.kind == kind {
				return
			}
		}
		t.Errorf("%s is not seen: %v", kind, tr.broken)
	}
	seen(falseSnapshot, func(w *world) { // of another moment than was asked for
		w.must("backup", "now")
		w.checkNew(w.truth.saves())
	})
	seen(falseSnapshot, func(w *world) { // of other data
		w.must("backup", "now")
		for marker := range w.truth.moments {
			w.truth.moments[marker] = "another digest"
		}
		w.checkNew(0)
	})
	seen(falseSnapshot, func(w *world) { // that cannot be restored
		w.must("backup", "now")
		for _, id := range w.ids() {
			if err := os.Remove(w.storeDir + "/" + instance + "/snapshots/" + id + "/dump.rdb.zst"); err != nil {
				t.Error(err)
			}
		}
		w.checkNew(0)
	})
	seen(unusableDir, func(w *world) {
		w.redis.Do(w, "DEL", "key:0")
		w.intact()
	})
	seen(unusableDir, func(w *world) {
		dir := w.TempDir()
		if err := os.WriteFile(dir+"/dump.rdb", []byte("REDIS0010"), 0o600); err != nil {
			t.Error(err)
		}
		w.boot(dir, nil)
	})
	seen(otherFault, func(w *world) { w.Fatalf("the harness fails") })
	seen(otherFault, func(*world) { panic("the harness fails") })
}

func TestModel(t *testing.T) {
	m := &model{}
	// 1 is a flush, then one round of writes and a few more, another flush, 3 writes.
	m.flushes = []int{1, 250}
	m.n = 253
	for _, tt := range []struct{ n, key, want int }{
		{1, 1, 0}, {1, 0, 0}, {2, 2, 2}, {2, 3, 0}, {201, 1, 201}, {200, 0, 200}, {249, 49, 249}, {249, 50, 50},
		{249, 1, 201}, {250, 49, 0}, {250, 50, 0}, {253, 51, 251}, {253, 53, 253}, {253, 54, 0}, {253, 50, 0},
	} {
		if got := m.at(tt.n, tt.key); got != tt.want {
			t.Errorf("at(%d, %d) = %d, want %d", tt.n, tt.key, got, tt.want)
		}
	}
}

func TestKilledAt(t *testing.T) {
	_, got := killedAt([]string{"mkdir a", "write b", "write b", "write b", "write b", "sync b", "write c", "sync c", "remove d", "remove d"})
	want := []string{"1. mkdir a", "2. write b", "2. write b, no. 2", "3. sync b", "4. write c", "5. sync c", "6. remove d", "6. remove d, no. 2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
