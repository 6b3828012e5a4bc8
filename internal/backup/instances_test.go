package backup

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestInstances(t *testing.T) {
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			c := newTestCatalogue(t, s)
			want := func(more bool, names ...string) {
				t.Helper()
				got, gotMore, err := c.Instances(testContext(t))
				if err != nil || gotMore != more {
					t.Errorf("more %t, %v", gotMore, err)
				}
				if diff := cmp.Diff(names, got); diff != "" {
					t.Errorf("instances (-want +got):\n%s", diff)
				}
			}
			want(false)
			const id = "20261123T060000Z-redis-0-aaaaaa"
			for _, key := range []string{
				"redis/snapshots/" + id + "/manifest.json", "redis/snapshots/20261124T060000Z-redis-0-aaaaaa/manifest.json",
				"prod/redis/snapshots/" + id + "/manifest.json",
				"clus/shards/00000/snapshots/" + id + "/manifest.json", "clus/shards/05461/snapshots/" + id + "/manifest.json",
				// None of these is a snapshot.
				"orphan/snapshots/" + id + "/dump.rdb", "lease/lease.json", "other/snapshots/x/manifest.json", "else/" + id + "/manifest.json", "manifest.json",
			} {
				put(t, s, key, "{}")
			}
			want(false, "clus", "prod/redis", "redis")
		})
	}
}

// manyStore lists what is not there.
type manyStore struct {
	Store

	keys   func(i int) string
	listed int
}

func (s *manyStore) List(_ context.Context, _ string, fn func(string, int64, time.Time) error) error {
	for i := range 10 * instancesLooked {
		s.listed++
		if err := fn(s.keys(i), 1, noon); err != nil {
			return err
		}
	}
	return nil
}

// However much there is, it looks at some and names a few.
func TestInstancesBounded(t *testing.T) {
	dir, _ := dirStore(t)
	for _, tt := range []struct {
		name          string
		keys          func(i int) string
		names, listed int
	}{
		{"one large instance", func(int) string { return "redis/snapshots/20261123T060000Z-redis-0-aaaaaa/manifest.json" }, 1, instancesLooked + 1},
		{"many instances", func(i int) string {
			return fmt.Sprintf("r%d/snapshots/20261123T060000Z-redis-0-aaaaaa/manifest.json", i)
		}, instancesNamed, instancesNamed + 1},
	} {
		s := &manyStore{Store: dir, keys: tt.keys}
		names, more, err := newTestCatalogue(t, s).Instances(testContext(t))
		if err != nil || !more || len(names) != tt.names || s.listed != tt.listed {
			t.Errorf("%s: %v, more %t, %v; listed %d", tt.name, names, more, err, s.listed)
		}
	}
}
