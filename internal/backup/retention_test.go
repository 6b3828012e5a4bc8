package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// putDaily stores one snapshot a day, the newest at noon; keys are from the
// newest on. It returns their ids.
func putDaily(tb testing.TB, c *Catalogue, keys ...uint64) (ids []string) {
	tb.Helper()
	for i, n := range keys {
		m := testManifest(noon.AddDate(0, 0, -i), n)
		putSnapshot(tb, c, m)
		ids = append(ids, m.ID)
	}
	return ids
}

func TestPrune(t *testing.T) {
	tests := []struct {
		name     string
		keys     []uint64 // of the snapshots, newest first
		damaged  []int
		keepLast int
		want     []int // stay
		spared   int   // -1: none
	}{
		{"all", []uint64{1, 1, 1}, nil, 0, []int{0, 1, 2}, -1},
		{"more than there are", []uint64{1, 1}, nil, 5, []int{0, 1}, -1},
		{"as many as there are", []uint64{1, 1}, nil, 2, []int{0, 1}, -1},
		{"two of four", []uint64{1, 1, 1, 1}, nil, 2, []int{0, 1}, -1},
		{"one", []uint64{1, 1, 1, 1}, nil, 1, []int{0}, -1},
		{"the last with keys", []uint64{0, 0, 0, 5, 6}, nil, 2, []int{0, 1, 3}, 3},
		{"one of those kept has keys", []uint64{0, 4, 0, 5}, nil, 2, []int{0, 1}, -1},
		{"no keys at all", []uint64{0, 0, 0}, nil, 1, []int{0}, -1},
		{"those kept are damaged", []uint64{1, 1, 1, 1, 1}, []int{0, 1}, 2, []int{0, 1, 2, 3}, -1},
		{"all that can be read are empty", []uint64{1, 0, 0, 0, 1}, []int{0}, 2, []int{0, 1, 2, 4}, 4},
		{"all are damaged", []uint64{1, 1, 1}, []int{0, 1, 2}, 1, []int{0, 1, 2}, -1},
		{"damaged ones go like others", []uint64{1, 1, 1}, []int{2}, 1, []int{0}, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := dirStore(t)
			ctx := testContext(t)
			c := newTestCatalogue(t, s)
			ids := putDaily(t, c, tt.keys...)
			for _, i := range tt.damaged {
				put(t, s, c.manifestKey(ids[i]), "{")
			}
			var want, gone []string
			for i, id := range ids {
				if slices.Contains(tt.want, i) {
					want = append(want, id)
				} else {
					gone = append(gone, id)
				}
			}
			slices.Reverse(gone)
			wantPruned := Pruned{Deleted: gone}
			if tt.spared >= 0 {
				wantPruned.Spared = ids[tt.spared]
			}
			for _, dryRun := range []bool{true, false} {
				got, err := c.Prune(ctx, Retention{Last: tt.keepLast}, dryRun)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(wantPruned, got, ignoreEmpty, cmpopts.IgnoreFields(Pruned{}, "Keeps")); diff != "" {
					t.Errorf("Prune, dry run %v (-want +got):\n%s", dryRun, diff)
				}
				if diff := cmp.Diff(want, keptIDs(got)); diff != "" {
					t.Errorf("Prune, dry run %v, keeps (-want +got):\n%s", dryRun, diff)
				}
				if left, err := c.IDs(ctx); err != nil || dryRun && len(left) != len(ids) {
					t.Errorf("after a dry run %d of %d are left, %v", len(left), len(ids), err)
				}
			}
			left, err := c.IDs(ctx)
			if diff := cmp.Diff(want, left); err != nil || diff != "" {
				t.Errorf("left, %v (-want +got):\n%s", err, diff)
			}
			again, err := c.Prune(ctx, Retention{Last: tt.keepLast}, false)
			if err != nil || len(again.Deleted) != 0 {
				t.Errorf("Prune again = %+v, %v", again, err)
			}
		})
	}
}

// A clock that was wrong has left snapshots of the future. Those taken since must
// not be deleted in their place.
func TestPruneAfterAWrongClock(t *testing.T) {
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	var want, future []string
	for i := range 3 {
		m := testManifest(time.Now().AddDate(10, 0, -i), 1)
		putSnapshot(t, c, m)
		future = append(future, m.ID)
	}
	want = append(want, future...)
	want = append(want, putDaily(t, c, 1, 1, 1, 1)[:2]...)
	p, err := c.Prune(testContext(t), Retention{Last: 2}, false)
	if err != nil || p.Kept() != 5 || len(p.Deleted) != 2 {
		t.Errorf("Prune = %+v, %v", p, err)
	}
	if diff := cmp.Diff(future, p.Ahead); diff != "" {
		t.Errorf("ahead (-want +got):\n%s", diff)
	}
	left, err := c.IDs(testContext(t))
	if diff := cmp.Diff(want, left); err != nil || diff != "" {
		t.Errorf("left, %v (-want +got):\n%s", err, diff)
	}
}

// keptIDs are the ids of what stays, newest first; each has a reason.
func keptIDs(p Pruned) (ids []string) {
	for _, k := range p.Keeps {
		if len(k.Why) > 0 {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

var ignoreEmpty = cmp.FilterValues(func(a, b []string) bool { return len(a)+len(b) == 0 }, cmp.Ignore())

func TestPruneSweepsOldUploads(t *testing.T) {
	s, dir := dirStore(t)
	ctx := testContext(t)
	c := newTestCatalogue(t, s)
	old, young := NewID(noon.AddDate(-1, 0, 0), "x"), NewID(time.Now(), "x")
	for _, id := range []string{old, young} {
		key := c.prefix() + id + "/dump.rdb.zst"
		put(t, s, key, "12345")
		yesterday := time.Now().Add(-25 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, key), yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	for _, dryRun := range []bool{true, false} {
		p, err := c.Prune(ctx, Retention{}, dryRun)
		if err != nil || len(p.Orphans) != 1 || p.Orphans[0].ID != old {
			t.Errorf("Prune, dry run %v = %+v, %v, want orphan %s", dryRun, p, err, old)
		}
	}
	wantKeys(t, s, c.prefix()+young+"/dump.rdb.zst")
}

// A store that denies deletion is asked three times, not a thousand.
func TestPruneDenied(t *testing.T) {
	dir, _ := dirStore(t)
	denied := 0
	s := &hookedStore{Store: dir, before: func(op, key string) error {
		if op == "delete" {
			denied++
			return status.WithHint(status.ReasonStoreDenied, "allow s3:DeleteObject", errors.New("access denied"))
		}
		return nil
	}}
	c := newTestCatalogue(t, s)
	ids := putDaily(t, c, 1, 1, 1, 1, 1, 1, 1, 1)
	p, err := c.Prune(testContext(t), Retention{Last: 1}, false)
	wantError(t, err, status.ReasonRetention, "prune: delete snapshot "+ids[7]+": access denied")
	if got := status.HintOf(err); got != "allow s3:DeleteObject" {
		t.Errorf("hint %q", got)
	}
	if denied != 3 || len(p.Deleted) != 0 {
		t.Errorf("asked %d times, deleted %v", denied, p.Deleted)
	}
	if left, err := c.IDs(testContext(t)); err != nil || len(left) != len(ids) {
		t.Errorf("left %v, %v", left, err)
	}
}

// A process that stood still while it pruned deletes nothing for the pod that goes on.
func TestPruneAfterTheLease(t *testing.T) {
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	ids := putDaily(t, c, 1, 1, 1)
	hold := &Hold{lease: &Lease{ttl: time.Second}, written: time.Now().Add(-time.Minute)}
	p, err := c.Prune(context.WithValue(testContext(t), holdKey{}, hold), Retention{Last: 1}, false)
	wantError(t, err, status.ReasonRetention, "prune: the backup lease was lost: it ran out before it was renewed")
	if left, err := c.IDs(testContext(t)); err != nil || len(left) != len(ids) || len(p.Deleted) > 0 {
		t.Errorf("left %v, %v; deleted %v", left, err, p.Deleted)
	}

	// It was taken away while the store was asked.
	hold.written = time.Now().Add(time.Hour)
	ctx, cancel := context.WithCancelCause(context.WithValue(testContext(t), holdKey{}, hold))
	cancel(fmt.Errorf("%w: redis-1 has it", errLeaseLost))
	p = Pruned{}
	if failures := c.deleteAll(ctx, &p, ids[1:], nil); !giveUp(ctx, failures) || len(p.Deleted) > 0 {
		t.Errorf("deleted %v, %v", p.Deleted, failures)
	}
	if err := leaseLost(ctx); err == nil || !strings.Contains(err.Error(), "redis-1 has it") {
		t.Error(err)
	}
}

// When a manifest cannot be read for now, nothing is deleted on a guess.
func TestPruneUnreadable(t *testing.T) {
	dir, _ := dirStore(t)
	broken := false
	s := &hookedStore{Store: dir, before: func(op, _ string) error {
		if op == "get" && broken {
			return status.WithReason(status.ReasonStoreUnreachable, errors.New("connection reset"))
		}
		return nil
	}}
	c := newTestCatalogue(t, s)
	putDaily(t, c, 1, 1, 1)
	broken = true
	p, err := c.Prune(testContext(t), Retention{Last: 1}, false)
	wantError(t, err, status.ReasonRetention, "connection reset")
	if len(p.Deleted) != 0 {
		t.Errorf("deleted %v", p.Deleted)
	}
}
