package backup

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNewID(t *testing.T) {
	at := time.Date(2026, 11, 23, 7, 15, 30, 999, time.FixedZone("", 3600))
	tests := []struct{ pod, want string }{
		{"redis-0", "20261123T061530Z-redis-0-"},
		{"", "20261123T061530Z-redis-"},
		{"Redis_0.prod/ä", "20261123T061530Z-redis-0-prod-"},
		{"--", "20261123T061530Z-redis-"},
		{strings.Repeat("a", 200), "20261123T061530Z-" + strings.Repeat("a", 63) + "-"},
	}
	for _, tt := range tests {
		id := NewID(at, tt.pod)
		if !strings.HasPrefix(id, tt.want) || len(id) != len(tt.want)+suffixInID {
			t.Errorf("NewID(%q) = %s, want %s and 6 letters", tt.pod, id, tt.want)
		}
		got, err := IDTime(id)
		if err != nil || !got.Equal(at.Truncate(time.Second)) {
			t.Errorf("IDTime(%s) = %v, %v", id, got, err)
		}
	}
	if a, b := NewID(at, "x"), NewID(at, "x"); a == b {
		t.Errorf("two ids of one second are equal: %s", a)
	}
	ids := []string{NewID(at.Add(time.Second), "a"), NewID(at, "b"), NewID(at.AddDate(1, 0, 0), "a"), NewID(at.Add(-time.Hour), "z")}
	slices.Sort(ids)
	last := time.Time{}
	for _, id := range ids {
		at, err := IDTime(id)
		if err != nil || at.Before(last) {
			t.Errorf("%s sorts before its time: %v", id, err)
		}
		last = at
	}
}

// Two snapshots within a second: the later one is the latest, and the one that
// the retention keeps.
func TestNewIDSortsWithinASecond(t *testing.T) {
	at := time.Date(2026, 11, 23, 7, 15, 30, 0, time.UTC)
	last := ""
	for at := at; at.Second() == 30; at = at.Add(2 * time.Millisecond) {
		id := NewID(at, "redis-0")
		if id <= last {
			t.Fatalf("%s of %s does not come after %s", id, at.Format(time.StampMilli), last)
		}
		last = id
	}
}

func TestIDTimeBad(t *testing.T) {
	good := "20261123T061530Z-redis-0-k3x5qa"
	if _, err := IDTime(good); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{
		"", "latest", "20261123T061530Z", "20261123T061530Z-", "20261123T061530Z-k3x5qa", "20261323T061530Z-redis-0-k3x5qa",
		"20261123T061530-redis-0-k3x5qa", "20261123T061530Z-redis/0-k3x5qa", "20261123T061530Z-..-k3x5qa",
		"20261123T061530Z-Redis-0-k3x5qa", " " + good, good + "\n", "20261123T061530.5Z-redis-0-k3x5qa",
		"20261123T061530Z-" + strings.Repeat("a", 80),
	} {
		if at, err := IDTime(id); err == nil {
			t.Errorf("IDTime(%q) = %v, want an error", id, at)
		}
	}
}

func TestValidInstance(t *testing.T) {
	for _, s := range []string{"redis", "prod/redis", "a.b_c-D/0", strings.Repeat("a", 255)} {
		if err := ValidInstance(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "/", "a/", "/a", "a//b", ".", "../x", "a/../b", "a b", "ä", "a\x00", "a/snapshots", "snapshots", "a?b", strings.Repeat("a", 256)} {
		if err := ValidInstance(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}
