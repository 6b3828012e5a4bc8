package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// verifiedName is the object beside a manifest that says what its verifications
// found. No reader of snapshots needs it.
const verifiedName = "verified.json"

// LevelLoaded is the level of a snapshot that a redis-server has loaded, too, and
// counted as many keys in. See Level.
const LevelLoaded Level = "loaded"

// depth orders the levels; it is negative for one that is not known.
func (l Level) depth() int { return slices.Index([]Level{LevelStored, LevelFull, LevelLoaded}, l) }

// Verification is the record of a verification of a snapshot: of several, the last
// that none after it was as deep as, or that found the damage. The JSON form is
// documented in docs/object-format.md.
type Verification struct {
	VerifiedAt time.Time `json:"verified_at"` // when it ended; UTC
	Level      Level     `json:"level"`
	Damage     string    `json:"damage,omitempty"` // what is wrong with the snapshot; "": nothing
	Tool       string    `json:"tool"`             // program and version that verified
	Pod        string    `json:"pod,omitempty"`    // where it ran
	Server     string    `json:"server,omitempty"` // of LevelLoaded: the version that loaded it
	Duration   float64   `json:"duration_seconds"`
	Scheduled  bool      `json:"scheduled,omitempty"` // by backup.verify.schedule, not by a command

	// ObjectSHA256 is that of the stored bytes in the manifest that was verified:
	// the record speaks of no other data.
	ObjectSHA256 string `json:"object_sha256"`

	// Later is the last verification, where that was after this one and not as deep.
	// It takes nothing back of what this one found, neither good nor bad.
	Later *Verification `json:"later,omitempty"`
}

// OK tells that the snapshot passed.
func (v Verification) OK() bool { return v.Damage == "" }

// last is the last verification, however deep.
func (v Verification) last() Verification {
	if v.Later != nil {
		return *v.Later
	}
	return v
}

// and adds to a record what another verification found, before or after. Damage is
// always news. What passes says no more than it has looked at: a snapshot that was
// once decrypted and walked is not less good for its stored bytes having been
// compared since, nor is one better that a server has refused to load.
func (v Verification) and(other Verification) Verification {
	all := []Verification{v}
	if v.Later != nil {
		all = append(all, *v.Later)
	}
	all = append(all, other)
	slices.SortStableFunc(all, func(a, b Verification) int { return a.VerifiedAt.Compare(b.VerifiedAt) })
	sum := all[0]
	sum.Later = nil
	for _, next := range all[1:] {
		next.Later = nil
		if next.Level.depth() >= sum.Level.depth() || sum.OK() && !next.OK() {
			sum = next
		} else {
			sum.Later = &next
		}
	}
	return sum
}

func (v Verification) validate() error {
	var ps problems
	ps.unless(!v.VerifiedAt.IsZero(), "verified_at is missing")
	ps.unless(v.VerifiedAt.Year() >= 0 && v.VerifiedAt.Year() <= 9999, "verified_at is out of range")
	ps.unless(v.Level.depth() >= 0, "level %.40q is not known", v.Level)
	ps.unless(isHex(v.ObjectSHA256, 32), "object_sha256 is missing or not 64 hex digits")
	return joined(ps...)
}

// parseVerification decodes a record. One that cannot be read counts as none:
// the snapshot is verified again.
func parseVerification(b []byte) (Verification, error) {
	var v Verification
	if err := json.Unmarshal(b, &v); err != nil {
		return Verification{}, fmt.Errorf("%s: %w", verifiedName, err)
	}
	v.VerifiedAt = v.VerifiedAt.UTC()
	if err := v.validate(); err != nil {
		return Verification{}, fmt.Errorf("%s: %w", verifiedName, err)
	}
	if l := v.Later; l != nil {
		l.VerifiedAt, l.Later = l.VerifiedAt.UTC(), nil
		if l.validate() != nil || l.ObjectSHA256 != v.ObjectSHA256 {
			v.Later = nil
		}
	}
	return v, nil
}

func (v Verification) encode() ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return append(b, '\n'), err
}

func (c *Catalogue) verifiedKey(id string) string { return c.prefix() + id + "/" + verifiedName }

// Verification returns the record of a snapshot's verifications; nil when it
// was never verified, or what is there is no record. The error is of the store.
func (c *Catalogue) Verification(ctx context.Context, id string) (*Verification, error) {
	v, _, err := c.verification(ctx, id)
	return v, err
}

// verification also returns the version of the object, for PutIf.
func (c *Catalogue) verification(ctx context.Context, id string) (*Verification, string, error) {
	b, version, err := c.store.GetVersioned(ctx, c.verifiedKey(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("snapshot %s: %w", id, err)
	}
	v, err := parseVerification(b)
	if err != nil {
		return nil, version, nil //nolint:nilerr // as none
	}
	return &v, version, nil
}

// record writes what a verification found beside the manifest, with what is known
// from others: see Verification.and. It is not written for a snapshot that was
// deleted meanwhile.
func (c *Catalogue) record(ctx context.Context, id string, v Verification) error {
	if err := v.validate(); err != nil {
		return fmt.Errorf("record verification of %s: %w", id, err)
	}
	var b []byte
	var err error
	const tries = 4 // each lost race means that somebody else has written
	for range tries {
		var old *Verification
		var version string
		if old, version, err = c.verification(ctx, id); err != nil {
			break
		}
		sum := v
		if old != nil && old.ObjectSHA256 == v.ObjectSHA256 {
			sum = old.and(v)
		}
		if b, err = sum.encode(); err != nil {
			break
		}
		if old != nil {
			if known, err := old.encode(); err == nil && bytes.Equal(b, known) {
				return nil // old news
			}
		}
		if _, err = c.store.Stat(ctx, c.manifestKey(id)); err != nil {
			break
		}
		_, err = c.store.PutIf(ctx, c.verifiedKey(id), b, version)
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if errors.Is(err, errors.ErrUnsupported) {
		// The store has no conditions: of two records at the same time, either will do.
		_, err = c.store.Put(ctx, c.verifiedKey(id), bytes.NewReader(b))
	}
	if err != nil {
		return fmt.Errorf("record verification of %s: %w", id, err)
	}
	return nil
}

// stamp tells one state of an object from another, by a listing.
type stamp struct {
	size     int64
	modified time.Time
}

// remembered is what the catalogue knows of a snapshot without asking again: the
// manifest never changes, the record does when its stamp does.
type remembered struct {
	newer    bool // a newer program's manifest, of which nothing is known
	gone     bool // deleted since the listing
	manifest bool // the next three are known
	counted  bool
	keys     uint64
	object   string // SHA-256 of the stored bytes

	record     stamp
	passed     bool
	failed     bool
	verifiedAt time.Time
	level      Level
	checkedAt  time.Time
	scheduled  bool
}

// factsOf reads what the rules of the retention need. Without anything to delete
// they need nothing but the ids. It costs one small read for each manifest and
// record that this catalogue has not seen yet.
func (c *Catalogue) factsOf(ctx context.Context, folders []folder, idsOnly bool) ([]snapshotFacts, error) {
	all := make([]snapshotFacts, len(folders))
	for i, f := range folders {
		at, _ := IDTime(f.id) // only valid ones are listed
		all[i] = snapshotFacts{id: f.id, at: at}
	}
	if idsOnly {
		return all, nil
	}
	err := eachOf(ctx, len(folders), func(ctx context.Context, i int) error {
		known, damaged, err := c.recall(ctx, folders[i])
		if err != nil {
			return err
		}
		f := &all[i]
		f.newer, f.gone = known.newer, known.gone
		f.damaged = damaged || known.failed
		f.verified = known.passed && !f.damaged
		f.counted, f.keys = known.counted && !damaged, known.keys
		f.verifiedAt, f.level, f.checkedAt, f.scheduled = known.verifiedAt, known.level, known.checkedAt, known.scheduled
		return nil
	})
	c.memory.forgetAllBut(folders)
	return all, err
}

// recall returns what is known of a snapshot, and reads what is not. damaged
// tells that its manifest is.
func (c *Catalogue) recall(ctx context.Context, f folder) (known remembered, damaged bool, err error) {
	known = c.memory.get(f.id)
	if !known.manifest {
		m, err := c.Get(ctx, f.id)
		switch {
		case errors.Is(err, ErrNewerFormat):
			return remembered{newer: true}, false, nil // no damage; it is read again each time
		case errors.Is(err, ErrNotFound):
			return remembered{gone: true}, true, nil // nothing to restore, so nothing that counts for a rule
		case err != nil && status.ReasonOf(err) == status.ReasonCorrupt:
			return remembered{}, true, nil
		case err != nil:
			return remembered{}, false, err // what cannot be read now may be the good one
		}
		known.manifest, known.counted, known.keys, known.object = true, m.RDB.Walked, m.RDB.Keys, m.Object.SHA256
	}
	if known.record != f.record {
		known = remembered{manifest: true, counted: known.counted, keys: known.keys, object: known.object, record: f.record}
		if f.record != (stamp{}) {
			v, err := c.Verification(ctx, f.id)
			if err != nil {
				return remembered{}, false, err
			}
			if v != nil && v.ObjectSHA256 == known.object {
				known.passed, known.failed, known.verifiedAt, known.level = v.OK(), !v.OK(), v.VerifiedAt, v.Level
				known.checkedAt, known.scheduled = v.last().VerifiedAt, v.last().Scheduled
			}
		}
	}
	c.memory.set(f.id, known)
	return known, false, nil
}

// memory is what a catalogue remembers, by id.
type memory struct {
	mu    sync.Mutex
	known map[string]remembered
}

func (m *memory) get(id string) remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[id]
}

func (m *memory) set(id string, known remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[id] = known
}

// forgetAllBut keeps what is remembered as small as the catalogue.
func (m *memory) forgetAllBut(folders []folder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	left := make(map[string]remembered, len(folders))
	for _, f := range folders {
		if known, ok := m.known[f.id]; ok {
			left[f.id] = known
		}
	}
	m.known = left
}
