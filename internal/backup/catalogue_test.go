package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

var noon = time.Date(2024, 11, 23, 12, 0, 0, 0, time.UTC)

// testStores opens the two kinds of store, each on a server or directory of its
// own.
func testStores() map[string]func(testing.TB) Store {
	return map[string]func(testing.TB) Store{
		"dir": func(tb testing.TB) Store {
			tb.Helper()
			s, _ := dirStore(tb)
			return s
		},
		"s3": func(tb testing.TB) Store {
			tb.Helper()
			s, _ := s3Store(tb)
			return s
		},
	}
}

func TestCatalogue(t *testing.T) {
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			ctx := testContext(t)
			c := newTestCatalogue(t, s)

			if entries, err := c.List(ctx, 0); err != nil || len(entries) != 0 {
				t.Fatalf("List of nothing = %v, %v", entries, err)
			}
			_, err := c.Find(ctx, "latest")
			if !errors.Is(err, ErrNoSnapshots) {
				t.Errorf("Find(latest) of nothing: %v", err)
			}

			var manifests []Manifest // newest first
			for i := range 12 {
				m := testManifest(noon.Add(-time.Duration(i)*time.Hour), uint64(i))
				putSnapshot(t, c, m)
				manifests = append(manifests, m)
			}
			// What is no snapshot of this instance.
			other, err := NewCatalogue(s, "test2")
			if err != nil {
				t.Fatal(err)
			}
			putSnapshot(t, other, testManifest(noon.Add(time.Hour), 1))
			put(t, s, "test/snapshots/README", "hello")
			put(t, s, "test/snapshots/not-an-id/manifest.json", "{}")
			put(t, s, c.prefix()+NewID(noon.Add(2*time.Hour), "x")+"/dump.rdb.zst", "an upload that still runs")

			entries, err := c.List(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []Manifest
			for _, e := range entries {
				if e.Err != nil || e.ID != e.Manifest.ID || !e.Time.Equal(e.Manifest.CreatedAt.Truncate(time.Second)) {
					t.Errorf("entry %+v", e)
				}
				got = append(got, e.Manifest)
			}
			if diff := cmp.Diff(manifests, got); diff != "" {
				t.Errorf("List (-want +got):\n%s", diff)
			}
			if entries, err := c.List(ctx, 3); err != nil || len(entries) != 3 || entries[0].ID != manifests[0].ID {
				t.Errorf("List of 3 = %v, %v", entries, err)
			}

			finds := []struct{ what, want string }{
				{"latest", manifests[0].ID},
				{manifests[5].ID, manifests[5].ID},
				{"2024-11-23T12:00:00Z", manifests[0].ID},
				{"2024-11-23T11:59:59Z", manifests[1].ID},
				{"2024-11-23T12:30:00+02:00", manifests[2].ID},
				{"2030-01-01T00:00:00Z", manifests[0].ID},
				{"2024-11-23T01:00:00Z", manifests[11].ID},
			}
			for _, f := range finds {
				m, err := c.Find(ctx, f.what)
				if err != nil || m.ID != f.want {
					t.Errorf("Find(%s) = %s, %v, want %s", f.what, m.ID, err, f.want)
				}
			}
			for what, want := range map[string]string{
				"2024-11-23T00:59:59Z":         "no such snapshot: none is as old as 2024-11-23T00:59:59Z, the oldest is " + manifests[11].ID,
				NewID(noon, "nobody"):          "no such snapshot",
				"yesterday":                    `no such snapshot: "yesterday" is neither "latest" nor an id nor a time`,
				"../../test2/snapshots/latest": "is neither",
			} {
				_, err := c.Find(ctx, what)
				if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), want) {
					t.Errorf("Find(%s): %v, want %s", what, err, want)
				}
			}

			if err := c.Delete(ctx, manifests[0].ID); err != nil {
				t.Fatal(err)
			}
			if m, err := c.Find(ctx, "latest"); err != nil || m.ID != manifests[1].ID {
				t.Errorf("after Delete, latest = %s, %v", m.ID, err)
			}
			if _, err := s.Stat(ctx, c.ObjectKey(manifests[0])); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Delete, the data: %v", err)
			}
			if err := c.Delete(ctx, manifests[0].ID); err != nil {
				t.Errorf("Delete again: %v", err)
			}
			if err := c.Delete(ctx, "../x"); !errors.Is(err, ErrNotFound) {
				t.Errorf("Delete of no id: %v", err)
			}
		})
	}
}

// A time within the second of an id decides by the manifest.
func TestFindWithinASecond(t *testing.T) {
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	early, late := testManifest(noon.Add(-time.Hour), 1), testManifest(noon.Add(700*time.Millisecond), 2)
	putSnapshot(t, c, early)
	putSnapshot(t, c, late)
	for what, want := range map[string]string{"2024-11-23T12:00:00.8Z": late.ID, "2024-11-23T12:00:00.6Z": early.ID} {
		if m, err := c.Find(testContext(t), what); err != nil || m.ID != want {
			t.Errorf("Find(%s) = %s, %v, want %s", what, m.ID, err, want)
		}
	}
}

// Damage is shown, and never passed over to older data.
func TestCatalogueDamagedManifest(t *testing.T) {
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			ctx := testContext(t)
			c := newTestCatalogue(t, s)
			good := testManifest(noon.Add(-time.Hour), 1)
			putSnapshot(t, c, good)
			bad, newer, wrong := NewID(noon, "bad"), NewID(noon.Add(time.Hour), "newer"), NewID(noon.Add(-30*time.Minute), "wrong")
			put(t, s, c.manifestKey(bad), `{"format_version": 1, "id":`)
			put(t, s, c.manifestKey(wrong), string(goldenManifest(t)))

			for _, what := range []string{"latest", bad} {
				_, err := c.Find(ctx, what)
				wantError(t, err, status.ReasonCorrupt, "snapshot "+bad+": manifest: not a manifest: unexpected end of JSON input")
				if got, want := status.HintOf(err), "name another snapshot by its id; the data beside the manifest may be whole all the same, see docs/fetch-by-hand.md"; got != want {
					t.Errorf("hint %q, want %q", got, want)
				}
			}
			put(t, s, c.manifestKey(newer), `{"format_version": 7}`)
			_, err := c.Find(ctx, "latest")
			if !errors.Is(err, ErrNewerFormat) || status.HintOf(err) != hintUpgrade {
				t.Errorf("Find(latest): %v (hint: %s)", err, status.HintOf(err))
			}
			_, err = c.Get(ctx, wrong)
			wantError(t, err, status.ReasonCorrupt, "snapshot "+wrong+": manifest: id is 20261123T064514Z-redis-0-q4evec")

			entries, err := c.List(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, fmt.Sprintf("%s %v", e.ID, e.Err == nil))
			}
			want := []string{newer + " false", bad + " false", wrong + " false", good.ID + " true"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("List (-want +got):\n%s", diff)
			}
			if err := c.Delete(ctx, bad); err != nil {
				t.Errorf("Delete of a damaged one: %v", err)
			}
		})
	}
}

// The manifest goes first: what a deletion cut short leaves is not a snapshot.
func TestDeleteOrder(t *testing.T) {
	dir, _ := dirStore(t)
	var deleted []string
	s := &hookedStore{Store: dir, before: func(op, key string) error {
		if op == "delete" {
			deleted = append(deleted, key)
			if len(deleted) == 2 {
				return status.WithReason(status.ReasonStore, errors.New("cut"))
			}
		}
		return nil
	}}
	c := newTestCatalogue(t, s)
	m := testManifest(noon, 1)
	putSnapshot(t, c, m)
	err := c.Delete(testContext(t), m.ID)
	wantError(t, err, status.ReasonStore, "delete snapshot "+m.ID+": cut")
	if diff := cmp.Diff([]string{c.manifestKey(m.ID), c.ObjectKey(m)}, deleted); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if _, err := c.Find(testContext(t), "latest"); !errors.Is(err, ErrNoSnapshots) {
		t.Errorf("half deleted, Find: %v", err)
	}
}

func TestOrphans(t *testing.T) {
	s, _ := dirStore(t)
	ctx := testContext(t)
	c := newTestCatalogue(t, s)
	old := NewID(noon, "old")
	put(t, s, c.prefix()+old+"/dump.rdb.zst", "12345")
	put(t, s, c.prefix()+NewID(time.Now().Add(time.Hour), "young")+"/dump.rdb.zst", "12345")
	putSnapshot(t, c, testManifest(noon, 1))

	// The id is old, but the object was just written.
	if got, err := c.Orphans(ctx, time.Now().Add(-time.Minute)); err != nil || len(got) != 0 {
		t.Errorf("Orphans = %v, %v, want none", got, err)
	}
	got, err := c.Orphans(ctx, time.Now().Add(time.Minute))
	if err != nil || len(got) != 1 || got[0].ID != old || got[0].Size != 5 {
		t.Errorf("Orphans = %+v, %v, want %s with 5 bytes", got, err, old)
	}
	// It got its manifest after all.
	m := testManifest(noon, 1)
	putSnapshot(t, c, m)
	if err := c.deleteOrphan(ctx, m.ID); err == nil {
		t.Error("a snapshot was deleted as an orphan")
	}
	if err := c.deleteOrphan(ctx, old); err != nil {
		t.Error(err)
	}
	if got, err := c.Orphans(ctx, time.Now().Add(time.Minute)); err != nil || len(got) != 0 {
		t.Errorf("Orphans = %v, %v, want none", got, err)
	}
}

func TestCatalogueStoreErrors(t *testing.T) {
	ctx := context.Background()
	missing := openStore(t, "file:///nonexistent/snapshots", nil)
	c := newTestCatalogue(t, missing)
	_, err := c.List(ctx, 0)
	wantError(t, err, status.ReasonStoreMissing, "list snapshots: list test/snapshots/ in file:///nonexistent/snapshots: the directory does not exist")
	_, err = c.Find(ctx, "latest")
	wantError(t, err, status.ReasonStoreMissing, "the directory does not exist")
	if _, err := NewCatalogue(missing, "a//b"); err == nil {
		t.Error("an instance with an empty segment is accepted")
	}
}

// What is swept in a bucket must be a snapshot's: others may use it, too.
func TestOfSnapshot(t *testing.T) {
	for key, want := range map[string]bool{
		"redis/snapshots/20261127T201427Z-vm-g4rp48/dump.rdb.zst":              true,
		"redis/shards/00000/snapshots/20261127T201427Z-vm-g4rp48/dump.rdb.zst": true,
		"a/b/redis/snapshots/20261127T201427Z-vm-g4rp48/manifest.json":         true,
		"redis/snapshots/other/dump.rdb.zst":                                   false,
		"redis/20261127T201427Z-vm-g4rp48/dump.rdb.zst":                        false,
		"snapshots/20261127T201427Z-vm-g4rp48":                                 false,
		"redis/lease.json":                                                     false,
		"movie.mkv":                                                            false,
		"":                                                                     false,
	} {
		if got := ofSnapshot(key); got != want {
			t.Errorf("%q: got %t", key, got)
		}
	}
}
