package backup

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// sealed makes a manifest that of an encrypted snapshot.
func sealed(m Manifest, recipient string) Manifest {
	m.Object.Name, m.Object.Encryption, m.Object.Recipients = objectName(CompressionZstd, EncryptionAge), EncryptionAge, []string{recipient}
	return m
}

func TestCheckKept(t *testing.T) {
	key, _ := ageKey(t)
	for name, tt := range map[string]struct {
		places  []string // of snapshots, oldest first: a shard, or "" for the instance itself
		plain   []bool
		shard   string
		with    Encryption
		refused bool
	}{
		"none":                  {},
		"encrypted":             {places: []string{"", ""}, plain: []bool{true, false}, refused: true},
		"no more":               {places: []string{"", ""}, plain: []bool{false, true}},
		"with recipients":       {places: []string{""}, plain: []bool{false}, with: Encryption{Recipients: []string{key}}},
		"with a file":           {places: []string{""}, plain: []bool{false}, with: Encryption{RecipientsFile: "/file"}},
		"any shard":             {places: []string{"", "00000", "05461"}, plain: []bool{true, true, false}, refused: true},
		"a shard, longer ago":   {places: []string{"00000", "05461"}, plain: []bool{false, true}},
		"this shard":            {places: []string{"a", "b"}, plain: []bool{false, true}, shard: "a", refused: true},
		"another shard":         {places: []string{"a", "b"}, plain: []bool{true, false}, shard: "a"},
		"shards are not looked": {places: []string{"", "a"}, plain: []bool{true, false}, shard: ShardNone},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := dirStore(t)
			for i, shard := range tt.places {
				c := newTestCatalogue(t, s)
				m := testManifest(time.Now().Add(time.Duration(i-10)*time.Hour), 1)
				if shard != "" {
					c = c.at(shard)
				}
				m.Instance = c.instance
				if !tt.plain[i] {
					m = sealed(m, key)
				}
				putSnapshot(t, c, m)
			}
			sn, err := NewSnapshotter(SnapshotOptions{Instance: "test", Pod: "redis-0", Shard: tt.shard, Encryption: tt.with}, noServer{}, s)
			if err != nil {
				t.Fatal(err)
			}
			if err = sn.CheckKept(t.Context()); !tt.refused && err != nil {
				t.Error(err)
			}
			if tt.refused {
				wantError(t, err, status.ReasonKey, "is encrypted, and this one would not be: no recipients are set")
				if status.HintOf(err) == "" {
					t.Error("no hint")
				}
			}
		})
	}
}

// The agent goes on without recipients, and says so for as long as one of the
// snapshots that it knows is encrypted.
func TestJobEncryptionIsGone(t *testing.T) {
	key, _ := ageKey(t)
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "@every 1h", func(o *Options) { o.Retention.Last = 3 })
		old := sealed(testManifest(j.start.Add(-30*time.Minute), 1), key)
		putSnapshot(t, newTestCatalogue(t, j.store), old)
		j.run()
		j.at(45 * time.Minute)
		j.wantState(status.Warning, status.ReasonKey, "; but it is not encrypted, and "+old.ID+" is: backup.encryption.recipients is not set here")
		j.at(100 * time.Minute)
		j.wantState(status.Warning, status.ReasonKey, "; but it is not encrypted")
		j.at(160 * time.Minute) // by now the retention has deleted it
		j.wantState(status.OK, "", "snapshot ")
	})
}
