package backup

import (
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

// takesNoRecord is a hook of a store whose credentials may not write records.
func takesNoRecord(op, key string) error {
	if op == "put-if" && strings.HasSuffix(key, verifiedName) {
		return status.WithReason(status.ReasonStoreDenied, fmt.Errorf("put %s: access denied", key))
	}
	return nil
}

// That the record cannot be written is said, and does not hide what was found.
func TestVerifyCannotRecord(t *testing.T) {
	tests := []struct {
		name        string
		damage      bool
		load        LoadServer
		reason      status.Reason
		notRecorded bool
		text        string
	}{
		{"intact", false, nil, status.ReasonStoreDenied, true, "verified, but not recorded: "},
		{"damaged", true, nil, status.ReasonCorrupt, true, "; verified, but not recorded: "},
		{"not loaded", false, answer{err: status.WithReason(status.ReasonMemory, errors.New("no memory"))}, status.ReasonMemory, false, "no memory; record verification of "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, _ := dirStore(t)
			s := &hookedStore{Store: dir}
			c := newTestCatalogue(t, s)
			m := putReal(t, c, time.Now().Add(-time.Hour))
			if tt.damage {
				put(t, s, c.ObjectKey(m), strings.Repeat("y", int(m.Object.Size)))
			}
			s.before = takesNoRecord
			var log testenv.Log
			_, v, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Tool: "test", TempDir: t.TempDir(), Load: tt.load, Log: slog.New(slog.NewTextHandler(&log, nil))})
			wantError(t, err, tt.reason, tt.text)
			if errors.Is(err, ErrNotRecorded) != tt.notRecorded || !strings.HasSuffix(err.Error(), verifiedName+": access denied") {
				t.Errorf("error %v", err)
			}
			if (status.HintOf(err) != "") != tt.damage {
				t.Errorf("hint %q", status.HintOf(err))
			}
			if v.OK() == tt.damage || strings.Contains(v.Damage, "recorded") {
				t.Errorf("found %+v", v)
			}
			if text := log.String(); !strings.Contains(text, "what the verification found could not be recorded") || !strings.Contains(text, "reason=store_denied") {
				t.Errorf("log:\n%s", text)
			}
		})
	}
}

// The status page, too, shows a later verification that was not as deep.
func TestLineOfLesserVerification(t *testing.T) {
	at := time.Now().UTC()
	later := Verification{Level: LevelStored, VerifiedAt: at}
	e := Entry{Manifest: testManifest(noon, 1), Verified: &Verification{Level: LevelFull, VerifiedAt: noon, Later: &later}}
	if l := (&Job{}).line(e); l.Verified != "full" || !l.VerifiedAt.Equal(noon) || l.Later != "stored" || !l.LaterAt.Equal(at) {
		t.Errorf("line %+v", l)
	}
	e.Verified.Damage = "x"
	if l := (&Job{}).line(e); l.Verified != "" || l.Error != "x" || l.Later != "" || !l.LaterAt.IsZero() {
		t.Errorf("line %+v", l)
	}
}

// A lesser verification, of another pod, does not know better.
func TestUnrecordedDamageRefuted(t *testing.T) {
	u := unrecorded{at: noon, level: LevelFull}
	for _, tt := range []struct {
		after time.Duration
		level Level
		want  bool
	}{{time.Hour, LevelFull, true}, {time.Hour, LevelLoaded, true}, {time.Hour, LevelStored, false}, {-time.Hour, LevelLoaded, false}, {time.Hour, "", false}} {
		if got := u.refutedBy(noon.Add(tt.after), tt.level); got != tt.want {
			t.Errorf("%v %s: %t", tt.after, tt.level, got)
		}
	}
}

// Damage of which the store takes no record is as loud as any, until it has one that
// says better or the snapshot is gone.
func TestJobOfUnrecordedDamage(t *testing.T) {
	tests := []struct {
		name string
		end  func(t *testing.T, c *Catalogue, m Manifest)
	}{
		{"deleted", func(t *testing.T, c *Catalogue, m Manifest) {
			t.Helper()
			if err := c.Delete(testContext(t), m.ID); err != nil {
				t.Fatal(err)
			}
		}},
		{"mended, and verified elsewhere", func(t *testing.T, c *Catalogue, m Manifest) {
			t.Helper()
			recordScheduled(t, c, m, time.Now())
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newVerifyJob(t, "@every 24h", nil)
				c := newTestCatalogue(t, j.store)
				good, m := putReal(t, c, j.start.Add(-2*time.Hour)), putReal(t, c, j.start.Add(-time.Hour))
				put(t, j.store, c.ObjectKey(m), strings.Repeat("y", int(m.Object.Size)))
				var denied atomic.Bool
				denied.Store(true)
				j.store.before = func(op, key string) error {
					if strings.Contains(key, m.ID) && denied.Load() {
						return takesNoRecord(op, key)
					}
					return nil
				}
				j.run()
				for _, at := range []time.Duration{time.Minute, 12 * time.Hour} {
					j.at(at)
					j.wantState(status.Warning, status.ReasonCorrupt, "snapshot "+m.ID+" is damaged, the last verified one is "+good.ID+"; verify: snapshot "+m.ID)
					j.wantState(status.Warning, status.ReasonCorrupt, "; verified, but not recorded: ")
					j.wantMetrics(map[string]float64{
						"damaged_snapshots": 1, `verifications_total{result="damaged"}`: 1, `verifications_total{result="failed"}`: 0,
						"last_verified_timestamp_seconds": float64(good.CreatedAt.Unix()),
					})
				}
				if log := j.log.String(); strings.Count(log, "could not be recorded") != 1 {
					t.Errorf("log:\n%s", log)
				}
				denied.Store(false)
				tt.end(t, c, m)
				j.at(12*time.Hour + 11*time.Minute)
				j.wantMetrics(map[string]float64{"damaged_snapshots": 0})
				j.wantState(status.OK, "", " snapshots, the last is ")
			})
		})
	}
}

// The record of a snapshot whose damage cannot be written down still says that it was
// verified. The retention of the pod that has found it keeps the good one.
func TestRetentionKnowsOfUnrecordedDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan, err := ParseSchedule("@every 24h")
		if err != nil {
			t.Fatal(err)
		}
		j := newTestJob(t, "0 1 1 1 *", func(o *Options) {
			o.Verify, o.Retention = VerifyPlan{Schedule: plan}, Retention{Last: 1}
		})
		c := newTestCatalogue(t, j.store)
		good, m := putReal(t, c, j.start.Add(-50*time.Hour)), putReal(t, c, j.start.Add(-40*time.Hour))
		recordScheduled(t, c, good, j.start.Add(-45*time.Hour))
		recordScheduled(t, c, m, j.start.Add(-30*time.Hour))
		put(t, j.store, c.ObjectKey(m), strings.Repeat("y", int(m.Object.Size)))
		j.store.before = takesNoRecord
		j.run()
		j.wantMetrics(map[string]float64{"damaged_snapshots": 1, "last_verified_timestamp_seconds": float64(good.CreatedAt.Unix())})
		lines := j.report().Detail.(Detail).Snapshots
		if len(lines) != 2 || lines[0].Verified != "" || !strings.Contains(lines[0].Error, "verified, but not recorded") || lines[1].Error != "" {
			t.Errorf("on the page: %+v", lines)
		}

		j.at(time.Hour + time.Minute)
		entries, err := c.List(testContext(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, e := range entries {
			left = append(left, e.ID)
		}
		if len(left) != 2 || left[0] == m.ID || left[1] != good.ID {
			t.Errorf("left are %v, want one of now and %s, the good one; %s is damaged", left, good.ID, m.ID)
		}
	})
}
