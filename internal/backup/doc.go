// Package backup takes snapshots of the redis-server beside the sidecar, keeps
// a catalogue of them in a store, checks them, removes old ones and restores
// them.
//
// # What a snapshot is
//
// Two objects in a folder of their own, named by an id that sorts by time and is
// never used twice:
//
//	<instance>/snapshots/<id>/dump.rdb.zst
//	<instance>/snapshots/<id>/manifest.json
//
// The manifest is written last, after the data was uploaded, read back and
// compared. A folder without one is not a snapshot, whatever else is in it: a
// reader that goes by manifests alone is always right. [Catalogue] is that
// reader.
//
// # How one is taken
//
// [Snapshotter.Snapshot] asks the server for BGSAVE and reads the temporary file
// of exactly that save's child through an open descriptor, while the child still
// writes it. INFO, LASTSAVE and the name dump.rdb cannot tell one's own save
// from somebody else's, or from the empty file that FLUSHALL leaves; the child's
// own file can. See source.go and docs/backup.md.
package backup
