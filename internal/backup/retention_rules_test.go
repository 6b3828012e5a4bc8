package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// at parses a time of a table.
func at(tb testing.TB, text string) time.Time {
	tb.Helper()
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// shown writes what stays as lines "time: reasons", newest first.
func shown(all []snapshotFacts, why [][]string, layout string) string {
	var b strings.Builder
	for i, f := range all {
		if len(why[i]) > 0 {
			fmt.Fprintf(&b, "%s: %s\n", f.at.Format(layout), strings.Join(why[i], ", "))
		}
	}
	return b.String()
}

// every makes snapshots of 100 keys from newest back to oldest.
func every(newest, oldest time.Time, step time.Duration) (all []snapshotFacts) {
	for t := newest; !t.Before(oldest); t = t.Add(-step) {
		all = append(all, snapshotFacts{id: NewID(t, "redis-0"), at: t, counted: true, keys: 100})
	}
	return all
}

// Grandfather, father, son: what restic's forget keeps, as its users expect.
func TestRetentionPeriods(t *testing.T) {
	newest := at(t, "2026-11-27T18:00:00Z") // a Friday
	all := every(newest, newest.AddDate(-2, 0, 0), 6*time.Hour)
	for _, tt := range []struct {
		name string
		r    Retention
		want string
	}{
		{"last", Retention{Last: 3}, `
2026-11-27 18: last
2026-11-27 12: last
2026-11-27 06: last
`},
		{"hours that have one", Retention{Hourly: 3}, `
2026-11-27 18: hourly
2026-11-27 12: hourly
2026-11-27 06: hourly
`},
		{"the newest of a day", Retention{Daily: 3}, `
2026-11-27 18: daily
2026-11-26 18: daily
2026-11-25 18: daily
`},
		{"ISO weeks", Retention{Weekly: 3}, `
2026-11-27 18: weekly
2026-11-22 18: weekly
2026-11-15 18: weekly
`},
		{"months", Retention{Monthly: 3}, `
2026-11-27 18: monthly
2026-10-31 18: monthly
2026-09-30 18: monthly
`},
		{"years", Retention{Yearly: 5}, `
2026-11-27 18: yearly
2025-12-31 18: yearly
2024-12-31 18: yearly
`},
		{"any rule keeps", Retention{Last: 2, Daily: 2, Weekly: 2, Monthly: 2, Yearly: 2}, `
2026-11-27 18: last, daily, weekly, monthly, yearly
2026-11-27 12: last
2026-11-26 18: daily
2026-11-22 18: weekly
2026-10-31 18: monthly
2025-12-31 18: yearly
`},
		{"in a zone the day begins elsewhere", Retention{Daily: 3, Zone: time.FixedZone("", 9*3600)}, `
2026-11-27 18: daily
2026-11-27 12: daily
2026-11-26 12: daily
`},
		{"young ones", Retention{Last: 1, MinAge: 13 * time.Hour}, `
2026-11-27 18: last, younger than min-age
2026-11-27 12: younger than min-age
2026-11-27 06: younger than min-age
`},
		{"never fewer", Retention{Daily: 1, MinCount: 3}, `
2026-11-27 18: daily
2026-11-27 12: min-count
2026-11-27 06: min-count
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := shown(all, tt.r.decide(all, newest.Add(time.Minute)), "2006-01-02 15")
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), got); diff != "" {
				t.Errorf("stays (-want +got):\n%s", diff)
			}
		})
	}
	if got := len(shownAll(Retention{}, all, newest)); got != len(all) {
		t.Errorf("without a rule %d of %d stay", got, len(all))
	}
}

func shownAll(r Retention, all []snapshotFacts, now time.Time) (ids []string) {
	for i, why := range r.decide(all, now) {
		if len(why) > 0 {
			ids = append(ids, all[i].id)
		}
	}
	return ids
}

// The hour that the end of summer time repeats is two hours, and a week at the
// turn of the year is one.
func TestRetentionCalendar(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	all := every(at(t, "2026-10-25T01:30:00Z"), at(t, "2026-10-24T22:30:00Z"), 30*time.Minute)
	got := shown(all, Retention{Hourly: 3, Zone: berlin}.decide(all, all[0].at), "15:04")
	if want := "01:30: hourly\n00:30: hourly\n23:30: hourly\n"; got != want {
		t.Errorf("hours stay:\n%s\nwant:\n%s", got, want)
	}
	all = every(at(t, "2027-01-02T12:00:00Z"), at(t, "2026-12-25T12:00:00Z"), 24*time.Hour)
	got = shown(all, Retention{Weekly: 2}.decide(all, all[0].at), time.DateOnly)
	if want := "2027-01-02: weekly\n2026-12-27: weekly\n"; got != want {
		t.Errorf("weeks stay:\n%s\nwant:\n%s", got, want)
	}
}

// Rules in which the contents count: k keys, x damaged, v verified, ? not counted.
func TestRetentionContents(t *testing.T) {
	const guard = 30 * 24 * time.Hour
	for _, tt := range []struct {
		name string
		r    Retention
		have string // newest first, one a day
		want string // reasons of what stays, by position
	}{
		{"the last verified", Retention{Last: 2}, "5 5 5 5v 5v 5", "0 last; 1 last; 3 last verified"},
		{"a verified one that is damaged now does not count", Retention{Last: 1}, "5 5xv 5v 5v", "0 last; 2 last verified"},
		{"empty since", Retention{Last: 2}, "0 0 0 5 5", "0 last; 1 last; 3 the newest with keys"},
		{"shrunk since", Retention{Last: 2, ShrinkGuard: guard}, "3 2 1 1000 1000", "0 last; 1 last; 3 no newer one holds half of its keys"},
		{"shrunk twice", Retention{Last: 1, ShrinkGuard: guard}, "3 3 50 49 1000 900", "0 last; 2 no newer one holds half of its keys; 4 no newer one holds half of its keys"},
		{"half of it is back", Retention{Last: 1, ShrinkGuard: guard}, "500 3 1000 900", "0 last"},
		{"not quite half", Retention{Last: 1, ShrinkGuard: guard}, "499 3 1000 900", "0 last; 2 no newer one holds half of its keys"},
		{"the guard is off", Retention{Last: 1}, "3 2 1 1000", "0 last"},
		{"the guard is over", Retention{Last: 1, ShrinkGuard: 2 * 24 * time.Hour}, "3 2 1 1 1000", "0 last"},
		{"but not before there are three", Retention{Last: 1, ShrinkGuard: time.Hour}, "3 2 1000", "0 last; 2 no newer one holds half of its keys"},
		{"nobody knows what newer ones hold", Retention{Last: 1, ShrinkGuard: guard}, "? ? 1000", "0 last"},
		{"a damaged one holds nothing", Retention{Last: 1, ShrinkGuard: guard}, "3 900x 1000", "0 last; 2 no newer one holds half of its keys"},
		{"the guard alone, even with nothing else", Retention{Daily: 1, ShrinkGuard: guard}, "1 1000", "0 daily; 1 no newer one holds half of its keys"},
		{"damaged ones do not make up the least number", Retention{Last: 1, MinCount: 3}, "5 5x 5 5 5", "0 last; 2 min-count; 3 min-count"},
		{"damaged ones are in nobody's place", Retention{Last: 2}, "5x 5 5x 5 5 5x", "0 last; 1 last; 3 last"},
		{"and do not add up", Retention{Last: 2}, "5x 5x 5x 5x 5 5 5", "0 last; 1 last; 4 last; 5 last"},
		{"all are damaged", Retention{Last: 1, MinCount: 3}, "5x 5x 5x", "0 last, none is known to be good; 1 none is known to be good; 2 none is known to be good"},
		{"all are damaged, and there is no other rule", Retention{Daily: 1}, "5x 5x", "0 none is known to be good, daily; 1 none is known to be good"},
		{"nothing there", Retention{Last: 1}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var all []snapshotFacts
			for i, text := range strings.Fields(tt.have) {
				f := snapshotFacts{id: NewID(noon.AddDate(0, 0, -i), "x"), at: noon.AddDate(0, 0, -i)}
				f.damaged, f.verified = strings.Contains(text, "x"), strings.Contains(text, "v")
				if n, err := fmt.Sscanf(text, "%d", &f.keys); err == nil && n == 1 {
					f.counted = true
				}
				all = append(all, f)
			}
			var got []string
			for i, why := range tt.r.decide(all, noon) {
				if len(why) > 0 {
					got = append(got, fmt.Sprintf("%d %s", i, strings.Join(why, ", ")))
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "; ")); diff != "" {
				t.Errorf("stays (-want +got):\n%s", diff)
			}
		})
	}
}

// A day that ends with empty or damaged snapshots is kept by the last good one.
func TestRetentionPeriodTakesTheLastGoodOne(t *testing.T) {
	all := every(at(t, "2026-11-27T18:00:00Z"), at(t, "2026-11-25T00:00:00Z"), 6*time.Hour)
	all[4].keys, all[5].damaged = 0, true // the 26th at 18 and 12
	got := shown(all, Retention{Daily: 2}.decide(all, all[0].at), "02 15")
	if want := "27 18: daily\n26 06: daily\n"; got != want {
		t.Errorf("stays:\n%s\nwant:\n%s", got, want)
	}
}

// Whatever the rules and the snapshots: the newest, the newest with keys and the
// last verified stay, and every rule keeps at least as many as it says.
func FuzzRetention(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 100, 50, 7}, uint8(3), uint8(2), uint8(1), uint8(0), uint16(100), uint16(720))
	f.Add([]byte{9, 9, 9, 9, 0, 0, 0, 1}, uint8(0), uint8(0), uint8(4), uint8(2), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, data []byte, last, daily, monthly, count uint8, age, guard uint16) {
		var all []snapshotFacts
		when := noon
		for _, b := range data[:min(len(data), 300)] {
			all = append(all, snapshotFacts{
				id: NewID(when, "x"), at: when, damaged: b&7 == 7, verified: b&11 == 11, counted: b&17 != 17, keys: uint64(b >> 2),
			})
			when = when.Add(-time.Duration(b) * time.Hour)
		}
		if len(all) == 0 {
			return
		}
		r := Retention{
			Last: int(last), Daily: int(daily), Monthly: int(monthly), MinCount: int(count),
			MinAge: time.Duration(age) * time.Hour, ShrinkGuard: time.Duration(guard) * time.Hour,
		}
		why := r.decide(all, noon)
		must := []int{0}
		if i := slices.IndexFunc(all, snapshotFacts.sound); i >= 0 {
			must = append(must, i)
		}
		if i := slices.IndexFunc(all, func(f snapshotFacts) bool { return f.verified && !f.damaged }); i >= 0 {
			must = append(must, i)
		}
		for i := range min(int(last), len(all)) {
			must = append(must, i)
		}
		good := 0
		for i, f := range all {
			if good < int(last) && !f.damaged {
				must = append(must, i)
				good++
			}
		}
		for _, i := range must {
			if len(why[i]) == 0 {
				t.Errorf("%+v goes: %+v", all[i], r)
			}
		}
		kept, intact, stays := 0, 0, 0
		for i, f := range all {
			if !f.damaged {
				intact++
			}
			if len(why[i]) > 0 {
				stays++
				if !f.damaged {
					kept++
				}
			} else if noon.Sub(f.at) < r.MinAge {
				t.Errorf("%+v is younger than %s and goes", f, r.MinAge)
			}
		}
		if kept < min(int(count), intact) || stays == 0 {
			t.Errorf("%d of %d intact ones stay, want %d", kept, intact, count)
		}
	})
}

// A program that was rolled back finds snapshots of a format that it does not know:
// they are neither damaged nor its to delete, and not its to verify.
func TestPruneKeepsNewerFormat(t *testing.T) {
	s, _ := dirStore(t)
	ctx := testContext(t)
	c := newTestCatalogue(t, s)
	now := time.Now()
	newer := NewID(now.Add(-5*time.Hour), "newer")
	put(t, s, c.manifestKey(newer), `{"format_version": 7}`)
	var ids []string // oldest first
	for i := range 3 {
		m := testManifest(now.Add(time.Duration(i-4)*time.Hour), 1)
		putSnapshot(t, c, m)
		ids = append(ids, m.ID)
	}
	p, err := c.Prune(ctx, Retention{Last: 2, MinCount: 1, ShrinkGuard: 720 * time.Hour}, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{ids[0]}, p.Deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
	want := []Keep{{ID: ids[2], Why: []string{whyLast}}, {ID: ids[1], Why: []string{whyLast}}, {ID: newer, Why: []string{whyNewer}}}
	if diff := cmp.Diff(want, p.Keeps); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	sampled, err := c.Sample(ctx, 5)
	if diff := cmp.Diff([]string{ids[2], ids[1]}, sampled); diff != "" || err != nil {
		t.Errorf("sampled (-want +got):\n%s%v", diff, err)
	}
	facts, err := c.Protected(ctx, Retention{})
	if err != nil || len(facts) != 1 || facts[0].ID != ids[2] {
		t.Errorf("protected: %v, %v", facts, err)
	}
}

// TestTrapWipedServerPushesLastGoodOut: a server loses its data, gets a few keys
// again, and goes on taking snapshots. However many there are, the last good one
// stays and somebody is told.
func TestTrapWipedServerPushesLastGoodOut(t *testing.T) {
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	r := Retention{Last: 3, ShrinkGuard: 30 * 24 * time.Hour}
	start := time.Now().UTC().Add(-20 * time.Hour)
	var good string
	for i := range 4 {
		m := testManifest(start.Add(time.Duration(i)*time.Hour), 1000)
		putSnapshot(t, c, m)
		good = m.ID
	}
	for i := range 10 {
		putSnapshot(t, c, testManifest(start.Add(time.Duration(4+i)*time.Hour), uint64(2+i)))
		p, err := c.Prune(testContext(t), r, false)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if i >= 2 { // only the guard keeps it now
			want = good
		}
		if p.Guarded != want || p.Spared != "" {
			t.Fatalf("after %d small snapshots: guarded %q, want %q; spared %q", i+1, p.Guarded, want, p.Spared)
		}
	}
	m, err := c.Get(testContext(t), good)
	if err != nil || m.RDB.Keys != 1000 {
		t.Errorf("the last good snapshot: %v", err)
	}
	// A person says that this is right.
	if err := c.Delete(testContext(t), good); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Prune(testContext(t), r, false); err != nil || p.Guarded != "" || p.Kept() != 3 {
		t.Errorf("Prune after it was deleted = %+v, %v", p, err)
	}
}

// lockedError is what a store with object lock answers to a deletion.
type lockedError struct{ until time.Time }

func (lockedError) Error() string            { return "locked" }
func (e lockedError) LockedUntil() time.Time { return e.until }

// What the store keeps locked is no failure, and the rest is deleted.
func TestPruneLocked(t *testing.T) {
	dir, _ := dirStore(t)
	until := noon.AddDate(1, 0, 0)
	locked := map[string]bool{}
	s := &hookedStore{Store: dir, before: func(op, key string) error {
		if op == "delete" && locked[key] {
			return fmt.Errorf("delete %s: %w", key, lockedError{until})
		}
		return nil
	}}
	c := newTestCatalogue(t, s)
	ids := putDaily(t, c, 1, 1, 1, 1, 1, 1, 1, 1)
	for _, id := range ids[3:7] { // more than the failures that end a run
		locked[c.manifestKey(id)] = true
	}
	p, err := c.Prune(testContext(t), Retention{Last: 2}, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{ids[7], ids[2]}, p.Deleted); diff != "" || p.Locked != 4 {
		t.Errorf("locked %d; deleted (-want +got):\n%s", p.Locked, diff)
	}
	if diff := cmp.Diff([]string{ids[0], ids[1], ids[3], ids[4], ids[5], ids[6]}, keptIDs(p)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if k := p.Keeps[2]; !k.Until.Equal(until) || !slices.Equal(k.Why, []string{"locked"}) {
		t.Errorf("kept %+v", k)
	}
}

// A prune reads each manifest once, not at every run.
func TestPruneReadsManifestsOnce(t *testing.T) {
	dir, _ := dirStore(t)
	var gets atomic.Int64 // manifests are read several at once
	s := &hookedStore{Store: dir, before: func(op, _ string) error {
		if op == "get" {
			gets.Add(1)
		}
		return nil
	}}
	c := newTestCatalogue(t, s)
	putDaily(t, c, 1, 1, 1, 1)
	for _, want := range []int64{4, 0, 0} {
		gets.Store(0)
		if _, err := c.Prune(testContext(t), Retention{Last: 4}, false); err != nil || gets.Load() != want {
			t.Errorf("Prune read %d manifests, want %d; %v", gets.Load(), want, err)
		}
	}
	if len(c.memory.known) != 4 {
		t.Errorf("%d are remembered", len(c.memory.known))
	}
	if _, err := c.Prune(testContext(t), Retention{Last: 1}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prune(testContext(t), Retention{Last: 1}, false); err != nil || len(c.memory.known) != 1 {
		t.Errorf("%d are remembered of one, %v", len(c.memory.known), err)
	}
}

// The newest verified snapshot stays, by its record.
func TestPruneKeepsLastVerified(t *testing.T) {
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			ctx := testContext(t)
			c := newTestCatalogue(t, s)
			ids := putDaily(t, c, 1, 1, 1, 1, 1, 1)
			note := func(i int, damage string) {
				t.Helper()
				m, err := c.Get(ctx, ids[i])
				if err != nil {
					t.Fatal(err)
				}
				v := Verification{VerifiedAt: time.Now().UTC(), Level: LevelFull, Damage: damage, Tool: "test", ObjectSHA256: m.Object.SHA256}
				if err := c.record(ctx, ids[i], v); err != nil {
					t.Fatal(err)
				}
			}
			note(3, "")
			note(4, "")
			note(2, "sha256 differs")
			prune := func(want ...int) {
				t.Helper()
				p, err := c.Prune(ctx, Retention{Last: 1}, true)
				if err != nil {
					t.Fatal(err)
				}
				var got []int
				for _, id := range keptIDs(p) {
					got = append(got, slices.Index(ids, id))
				}
				if !slices.Equal(got, want) {
					t.Errorf("kept %v, want %v", got, want)
				}
			}
			prune(0, 3)
			note(3, "crc64 differs") // found damaged since
			prune(0, 4)
			note(1, "")
			prune(0, 1)
		})
	}
}

// A lesser verification takes nothing back of what a deeper one found, says when the
// bytes were last seen good, and is what the sampling goes by; damage is always
// recorded. It does not matter which is written first.
func TestVerificationsAddUp(t *testing.T) {
	m := testManifest(noon, 1)
	at := func(hour int, level Level, damage string) Verification {
		return Verification{VerifiedAt: noon.Add(time.Duration(hour) * time.Hour), Level: level, Damage: damage, Tool: "test", Scheduled: hour%2 == 0, ObjectSHA256: m.Object.SHA256}
	}
	after := func(v, later Verification) Verification {
		v.Later = &later
		return v
	}
	tests := []struct {
		name   string
		of     []Verification // in the order of time
		want   Verification
		passed bool
	}{
		{"deeper", []Verification{at(1, LevelStored, ""), at(2, LevelFull, "")}, at(2, LevelFull, ""), true},
		{"as deep", []Verification{at(1, LevelFull, ""), at(2, LevelFull, "")}, at(2, LevelFull, ""), true},
		{"lesser", []Verification{at(1, LevelFull, ""), at(2, LevelStored, "")}, after(at(1, LevelFull, ""), at(2, LevelStored, "")), true},
		{"lesser twice", []Verification{at(1, LevelLoaded, ""), at(2, LevelFull, ""), at(3, LevelStored, "")}, after(at(1, LevelLoaded, ""), at(3, LevelStored, "")), true},
		{"lesser, then deeper", []Verification{at(1, LevelFull, ""), at(2, LevelStored, ""), at(3, LevelLoaded, "")}, at(3, LevelLoaded, ""), true},
		{"damage that a lesser one finds", []Verification{at(1, LevelLoaded, ""), at(2, LevelStored, "x")}, at(2, LevelStored, "x"), false},
		{"damage after a lesser one", []Verification{at(1, LevelLoaded, ""), at(2, LevelStored, ""), at(3, LevelFull, "x")}, at(3, LevelFull, "x"), false},
		{"damage that a lesser one cannot see", []Verification{at(1, LevelFull, "x"), at(2, LevelStored, "")}, after(at(1, LevelFull, "x"), at(2, LevelStored, "")), false},
		{"damage that both find", []Verification{at(1, LevelFull, "x"), at(2, LevelStored, "y"), at(3, LevelStored, "")}, after(at(1, LevelFull, "x"), at(3, LevelStored, "")), false},
		{"damage that is no more", []Verification{at(1, LevelFull, "x"), at(2, LevelStored, ""), at(3, LevelFull, "")}, at(3, LevelFull, ""), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, swap := range []bool{false, true} { // the last two may race
				s, _ := dirStore(t)
				c := newTestCatalogue(t, s)
				putSnapshot(t, c, m)
				of := slices.Clone(tt.of)
				if n := len(of); swap {
					of[n-1], of[n-2] = of[n-2], of[n-1]
				}
				for _, v := range of {
					if err := c.record(testContext(t), m.ID, v); err != nil {
						t.Fatal(err)
					}
				}
				got, err := c.Verification(testContext(t), m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(&tt.want, got); diff != "" {
					t.Errorf("swapped %t, record (-want +got):\n%s", swap, diff)
				}
				folders, _, err := c.scan(testContext(t))
				if err != nil {
					t.Fatal(err)
				}
				all, err := c.factsOf(testContext(t), folders, false)
				if err != nil || len(all) != 1 {
					t.Fatalf("facts %+v, %v", all, err)
				}
				last := tt.of[len(tt.of)-1]
				if f := all[0]; f.verified != tt.passed || f.damaged == tt.passed || !f.checkedAt.Equal(last.VerifiedAt) || f.scheduled != last.Scheduled || !f.verifiedAt.Equal(tt.want.VerifiedAt) {
					t.Errorf("swapped %t, facts %+v", swap, f)
				}
			}
		})
	}
}

// What cannot be right beside a record does not take the record with it.
func TestVerificationLaterDamaged(t *testing.T) {
	const sum = "25db6b1b908dbe705f101f8dbaa220809d6e2862c0f7e1855eea5b78a7f2bad8"
	of := func(later string) string {
		return `{"verified_at":"2026-11-23T06:00:00+01:00","level":"full","object_sha256":"` + sum + `","later":` + later + `}`
	}
	good := `{"verified_at":"2026-11-24T06:00:00+01:00","level":"stored","object_sha256":"` + sum + `"}`
	for later, want := range map[string]bool{
		good: true, "null": false, "{}": false,
		strings.Replace(good, "stored", "half", 1): false, strings.Replace(good, sum, strings.Repeat("0", 64), 1): false,
	} {
		v, err := parseVerification([]byte(of(later)))
		if err != nil || v.Level != LevelFull || (v.Later != nil) != want || v.Later != nil && v.Later.VerifiedAt.Location() != time.UTC {
			t.Errorf("%s: %+v, %v", later, v, err)
		}
	}
}

// One that was seen good by a lesser verification is not the next in the sample.
func TestSampleCountsLesserVerifications(t *testing.T) {
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	ids := putDaily(t, c, 1, 1, 1)
	note := func(i int, at time.Time, level Level) {
		t.Helper()
		m, err := c.Get(testContext(t), ids[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.record(testContext(t), ids[i], Verification{VerifiedAt: at.UTC(), Level: level, Tool: "test", ObjectSHA256: m.Object.SHA256}); err != nil {
			t.Fatal(err)
		}
	}
	note(2, time.Now().Add(-3*time.Hour), LevelFull)
	note(1, time.Now().Add(-2*time.Hour), LevelFull)
	for i, want := range []int{2, 1, 2} {
		got, err := c.Sample(testContext(t), 1)
		if err != nil || len(got) != 2 || got[1] != ids[want] {
			t.Fatalf("sample %d: %v, %v, want %s", i, got, err, ids[want])
		}
		note(want, time.Now().Add(time.Duration(i-10)*time.Minute), LevelStored)
	}
}

// A record never overwrites a newer one, and a lost race is tried again.
func TestVerificationRecord(t *testing.T) {
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			ctx := testContext(t)
			c := newTestCatalogue(t, s)
			m := testManifest(noon, 1)
			putSnapshot(t, c, m)
			v := Verification{VerifiedAt: noon, Level: LevelFull, Tool: "test", ObjectSHA256: m.Object.SHA256, Duration: 1.5}
			if err := c.record(ctx, m.ID, v); err != nil {
				t.Fatal(err)
			}
			older := v
			older.VerifiedAt, older.Damage = noon.Add(-time.Hour), "old news"
			if err := c.record(ctx, m.ID, older); err != nil {
				t.Fatal(err)
			}
			got, err := c.Verification(ctx, m.ID)
			if err != nil || got == nil {
				t.Fatalf("Verification = %v, %v", got, err)
			}
			if diff := cmp.Diff(v, *got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			entries, err := c.List(ctx, 0)
			if err != nil || len(entries) != 1 || entries[0].Verified == nil || !entries[0].Verified.OK() {
				t.Errorf("List = %+v, %v", entries, err)
			}
			// A record of other data vouches for nothing.
			v.VerifiedAt, v.ObjectSHA256 = noon.Add(time.Hour), m.RDB.SHA256
			if err := c.record(ctx, m.ID, v); err != nil {
				t.Fatal(err)
			}
			if entries, err := c.List(ctx, 0); err != nil || entries[0].Verified != nil {
				t.Errorf("List with a foreign record = %+v, %v", entries, err)
			}
			// None at all, nor a damaged one, is no obstacle.
			put(t, s, c.verifiedKey(m.ID), "{")
			if got, err := c.Verification(ctx, m.ID); err != nil || got != nil {
				t.Errorf("Verification of nonsense = %v, %v", got, err)
			}
			if err := c.record(ctx, m.ID, v); err != nil {
				t.Fatal(err)
			}
			// It is not written beside a snapshot that is gone.
			if err := c.Delete(ctx, m.ID); err != nil {
				t.Fatal(err)
			}
			if err := c.record(ctx, m.ID, v); err == nil {
				t.Error("a record for a deleted snapshot was written")
			}
			wantKeys(t, s)
		})
	}
}

// Two that verify at once: the later record wins whoever writes first, and a
// store without conditions gets one all the same.
func TestVerificationRecordRace(t *testing.T) {
	dir, _ := dirStore(t)
	c := newTestCatalogue(t, dir)
	m := testManifest(noon, 1)
	putSnapshot(t, c, m)
	v := Verification{VerifiedAt: noon, Level: LevelFull, Tool: "me", ObjectSHA256: m.Object.SHA256}
	raced := false
	rs := &racedStore{Store: dir, before: func() {
		if !raced {
			raced = true
			other := v
			other.Tool = "the other"
			if err := newTestCatalogue(t, dir).record(testContext(t), m.ID, other); err != nil {
				t.Error(err)
			}
		}
	}}
	if err := newTestCatalogue(t, rs).record(testContext(t), m.ID, v); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Verification(testContext(t), m.ID); err != nil || got.Tool != "me" {
		t.Errorf("record = %+v, %v", got, err)
	}
	v.VerifiedAt, v.Tool = noon.Add(time.Hour), "without conditions"
	plain := &racedStore{Store: dir, before: func() {}, unsupported: true}
	if err := newTestCatalogue(t, plain).record(testContext(t), m.ID, v); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Verification(testContext(t), m.ID); err != nil || got.Tool != "without conditions" {
		t.Errorf("record = %+v, %v", got, err)
	}
}

// racedStore calls before just before a conditional write.
type racedStore struct {
	Store

	before      func()
	unsupported bool
}

func (s *racedStore) PutIf(ctx context.Context, key string, data []byte, version string) (string, error) {
	s.before()
	if s.unsupported {
		return "", errors.ErrUnsupported
	}
	return s.Store.PutIf(ctx, key, data, version)
}
