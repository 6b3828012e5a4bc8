package backup

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const hintUnencrypted = "set backup.encryption.recipients (or recipients-file) as the agent has it; --unencrypted takes one without encryption, on purpose"

// CheckKept makes sure that a snapshot that would not be encrypted does not follow
// one that is: whoever takes it most likely lacks a setting of those who took the
// others. It does not ask the server, so it does not know the shard of a cluster:
// there, the newest snapshot of any shard counts. The error has ReasonKey.
func (s *Snapshotter) CheckKept(ctx context.Context) error {
	m, ok, err := s.newestOfAll(ctx)
	if err != nil {
		return err
	}
	s.learnFrom(m)
	e := s.opts.Encryption
	if ok && m.Object.Encryption == EncryptionAge && len(e.Recipients) == 0 && e.RecipientsFile == "" {
		return status.WithHint(status.ReasonKey, hintUnencrypted,
			fmt.Errorf("the newest snapshot in %s, %s, is encrypted, and this one would not be: no recipients are set", m.Instance, m.ID))
	}
	return nil
}

// newestOfAll returns the newest manifest of the instance and of the shards that
// snapshots of this server can go to.
func (s *Snapshotter) newestOfAll(ctx context.Context) (newest Manifest, ok bool, err error) {
	places := []*Catalogue{s.base}
	switch s.opts.Shard {
	case ShardNone:
	case ShardAuto:
		shards, err := s.base.shardIDs(ctx)
		if err != nil {
			return Manifest{}, false, err
		}
		for _, name := range slices.Sorted(maps.Keys(shards)) {
			places = append(places, s.base.at(name))
		}
	default:
		places = append(places, s.base.at(s.opts.Shard))
	}
	for _, c := range places {
		ids, err := c.IDs(ctx)
		if err != nil {
			return Manifest{}, false, err
		}
		m, found, err := c.newestManifest(ctx, ids)
		if err != nil {
			return Manifest{}, false, err
		}
		if found && (!ok || m.CreatedAt.After(newest.CreatedAt)) {
			newest, ok = m, true
		}
	}
	return newest, ok, nil
}

// encryptedBefore returns the id of the newest snapshot known that is encrypted, if
// m is not; else "".
func (j *Job) encryptedBefore(m Manifest) string {
	if m.Object.Encryption == EncryptionAge {
		return ""
	}
	newest := ""
	for id, e := range j.entries {
		if e.Err == nil && e.Manifest.Object.Encryption == EncryptionAge {
			newest = max(newest, id)
		}
	}
	return newest
}
