package backup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Store is where snapshots live. Keys are slash-separated and relative to the
// place the store was opened on. Errors carry a status reason and a hint.
// Methods may be called from any goroutine.
type Store interface {
	// Put stores all of r and returns how many bytes that was. The object is
	// visible only when it is complete; an error from r is returned and leaves
	// nothing visible.
	Put(ctx context.Context, key string, r io.Reader) (size int64, err error)
	// Get opens an object; the error satisfies errors.Is(err, fs.ErrNotExist)
	// when there is none. A reader yields exactly size bytes, or an error. What
	// is also a lender is not copied.
	Get(ctx context.Context, key string) (r io.ReadCloser, size int64, err error)
	// Stat returns an object's size in bytes; its error is like that of Get.
	Stat(ctx context.Context, key string) (size int64, err error)
	// List calls fn for every object whose key starts with prefix, in no
	// particular order, and stops at fn's first error, which it returns.
	List(ctx context.Context, prefix string, fn func(key string, size int64, modified time.Time) error) error
	// Delete removes an object; removing what is absent is no error. The error
	// for one that is locked has a method LockedUntil() time.Time.
	Delete(ctx context.Context, key string) error
	// GetVersioned reads a small object, of at most 1 MiB, and tells its opaque
	// version; its error is like that of Get.
	GetVersioned(ctx context.Context, key string) (data []byte, version string, err error)
	// PutIf writes a small object, of at most 1 MiB, if its present version is
	// version; "" means that there must be none. The error satisfies
	// errors.Is(err, fs.ErrExist) when somebody else was faster, and
	// errors.Is(err, errors.ErrUnsupported) when the store cannot tell; nothing
	// was written then. After any other error data may have been written.
	PutIf(ctx context.Context, key string, data []byte, version string) (newVersion string, err error)
	// Sweep removes what Puts cut short, by a killed process, left behind more
	// than olderThan ago and List does not show.
	Sweep(ctx context.Context, olderThan time.Duration, own func(key string) bool) (removed int, err error)
	// String names the store for people, without secrets.
	String() string
}

const (
	snapshotsDir = "snapshots"
	manifestName = "manifest.json"

	// manifestFetches bounds the manifests read at once by List.
	manifestFetches = 8
)

// ErrNoSnapshots is wrapped by the error of Find when the instance has no
// snapshot at all, as on the first start of a new deployment.
var ErrNoSnapshots = errors.New("no snapshot yet")

// ErrNotFound is wrapped by the error for an id that is not in the catalogue,
// or a time before the first snapshot.
var ErrNotFound = errors.New("no such snapshot")

// Catalogue is the set of snapshots of one instance in a store. What the store
// says, at each call, is the truth; all that it remembers is what it has read of
// manifests, which never change. Its methods may be called from any goroutine.
type Catalogue struct {
	store    Store
	instance string

	identityFile string // to read encrypted snapshots with; "": none
	memory       *memory
}

// NewCatalogue returns the catalogue of an instance; see ValidInstance.
func NewCatalogue(store Store, instance string) (*Catalogue, error) {
	if err := ValidInstance(instance); err != nil {
		return nil, err
	}
	return &Catalogue{store: store, instance: instance, memory: &memory{known: map[string]remembered{}}}, nil
}

// WithIdentityFile returns a catalogue that decrypts with the age identities in a
// file, which is read whenever an encrypted snapshot is. "" is none.
func (c *Catalogue) WithIdentityFile(file string) *Catalogue {
	with := *c
	with.identityFile = file
	return &with
}

// Instance returns the name of the instance.
func (c *Catalogue) Instance() string { return c.instance }

// String names the place of the snapshots for people: the instance in the store.
func (c *Catalogue) String() string { return c.instance + " in " + c.store.String() }

// Entry is one snapshot of the catalogue. Err is set, and Manifest but for its
// ID empty, when the manifest is there but cannot be read or is not valid.
type Entry struct {
	ID       string
	Time     time.Time // from the id, UTC, whole seconds
	Manifest Manifest
	Err      error

	// Verified is the record of its verifications, if there is one and List was
	// asked.
	Verified *Verification

	record stamp // of that record
}

// prefix ends in a slash, so that instance "a" does not see instance "ab".
func (c *Catalogue) prefix() string { return c.instance + "/" + snapshotsDir + "/" }

func (c *Catalogue) manifestKey(id string) string { return c.prefix() + id + "/" + manifestName }

// ObjectKey returns the store's key of a snapshot's data.
func (c *Catalogue) ObjectKey(m Manifest) string { return c.prefix() + m.ID + "/" + m.Object.Name }

// IDs returns the ids of all snapshots, newest first, by listing alone: it does
// not read the manifests. Folders without a manifest are no snapshots, and
// names that are no ids are left out.
func (c *Catalogue) IDs(ctx context.Context) ([]string, error) {
	folders, _, err := c.scan(ctx)
	return idsOf(folders), err
}

func idsOf(folders []folder) []string {
	var ids []string
	for _, f := range folders {
		ids = append(ids, f.id)
	}
	return ids
}

// folder is a snapshot as a listing shows it.
type folder struct {
	id     string
	record stamp // of the record of its verification; zero when there is none
}

// scan lists everything once: the snapshots, newest first, and the folders
// without a manifest.
func (c *Catalogue) scan(ctx context.Context) (snapshots []folder, rest []Orphan, err error) {
	type seen struct {
		Orphan

		complete bool
		record   stamp
	}
	folders := map[string]*seen{}
	err = c.store.List(ctx, c.prefix(), func(key string, size int64, modified time.Time) error {
		id, name, ok := c.split(key)
		if !ok {
			return nil
		}
		f := folders[id]
		if f == nil {
			f = &seen{Orphan: Orphan{ID: id}}
			folders[id] = f
		}
		f.Size += size
		if modified.After(f.Modified) {
			f.Modified = modified
		}
		switch name {
		case manifestName:
			f.complete = true
		case verifiedName:
			f.record = stamp{size, modified}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list snapshots: %w", err)
	}
	for id, f := range folders {
		if f.complete {
			snapshots = append(snapshots, folder{id, f.record})
		} else {
			rest = append(rest, f.Orphan)
		}
	}
	slices.SortFunc(snapshots, func(a, b folder) int { return cmp.Compare(b.id, a.id) })
	slices.SortFunc(rest, func(a, b Orphan) int { return cmp.Compare(a.ID, b.ID) })
	return snapshots, rest, nil
}

// eachOf calls fn for 0 … n-1, a few at a time, and returns its first error.
func eachOf(ctx context.Context, n int, fn func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(manifestFetches)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}

// reachable asks the store for as little as shows that it is there and that its
// catalogue can be read.
func (c *Catalogue) reachable(ctx context.Context) error {
	enough := errors.New("enough")
	err := c.store.List(ctx, c.prefix(), func(string, int64, time.Time) error { return enough })
	if err != nil && !errors.Is(err, enough) {
		return fmt.Errorf("list snapshots: %w", err)
	}
	return nil
}

// ofSnapshot tells whether a key is one that snapshots have, of whichever instance.
func ofSnapshot(key string) bool {
	folder, _, _ := cutLast(key, "/")
	dir, id, _ := cutLast(folder, "/")
	_, err := IDTime(id)
	return err == nil && strings.HasSuffix(dir, "/"+snapshotsDir)
}

// split takes a key apart; ok is false for what is not in a snapshot's folder.
func (c *Catalogue) split(key string) (id, name string, ok bool) {
	rest, ok := strings.CutPrefix(key, c.prefix())
	if !ok {
		return "", "", false
	}
	id, name, ok = strings.Cut(rest, "/")
	if _, err := IDTime(id); !ok || err != nil {
		return "", "", false
	}
	return id, name, true
}

// List returns the newest snapshots, newest first, with the records of their
// verification; a limit of 0 means all. A damaged manifest is an entry with Err
// set; a store that fails is an error. It costs one listing, and one or two small
// reads per entry.
func (c *Catalogue) List(ctx context.Context, limit int) ([]Entry, error) {
	folders, _, err := c.scan(ctx)
	if err != nil {
		return nil, err
	}
	if limit > 0 && len(folders) > limit {
		folders = folders[:limit]
	}
	entries := make([]Entry, len(folders))
	err = eachOf(ctx, len(folders), func(ctx context.Context, i int) (err error) {
		entries[i], err = c.entryOf(ctx, folders[i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	// What was deleted between listing and reading was no damage.
	return slices.DeleteFunc(entries, func(e Entry) bool { return errors.Is(e.Err, ErrNotFound) }), nil
}

// entryOf is entry, with the record of the verification.
func (c *Catalogue) entryOf(ctx context.Context, f folder) (Entry, error) {
	e, err := c.entry(ctx, f.id)
	e.record = f.record
	if err != nil || e.Err != nil || f.record == (stamp{}) {
		return e, err
	}
	v, err := c.Verification(ctx, f.id)
	if v != nil && v.ObjectSHA256 == e.Manifest.Object.SHA256 {
		e.Verified = v
	}
	return e, err
}

// entry reads the manifest of a valid id. Damage and absence are in the entry;
// the error is of the store.
func (c *Catalogue) entry(ctx context.Context, id string) (Entry, error) {
	at, _ := IDTime(id)
	m, err := c.Get(ctx, id)
	if err != nil && status.ReasonOf(err) != status.ReasonCorrupt && !errors.Is(err, ErrNotFound) {
		return Entry{}, err
	}
	return Entry{ID: id, Time: at, Manifest: m, Err: err}, nil
}

// Get reads the manifest of one snapshot. The error wraps ErrNotFound when there
// is none, and carries status.ReasonCorrupt when it is damaged; see also
// ErrNewerFormat. As with data, one that was read amiss once is not: the retention
// takes less care of what is damaged.
func (c *Catalogue) Get(ctx context.Context, id string) (Manifest, error) {
	if _, err := IDTime(id); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	m, err := c.readManifest(ctx, id)
	if status.ReasonOf(err) == status.ReasonCorrupt && !errors.Is(err, ErrNewerFormat) {
		m, err = c.readManifest(ctx, id)
	}
	return m, err
}

func (c *Catalogue) readManifest(ctx context.Context, id string) (Manifest, error) {
	r, _, err := c.store.Get(ctx, c.manifestKey(id))
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("snapshot %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("snapshot %s: %w", id, err)
	}
	defer r.Close()
	m, err := ReadManifest(r)
	if errors.Is(err, fs.ErrNotExist) { // a store may open lazily
		return Manifest{}, fmt.Errorf("snapshot %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("snapshot %s: %w", id, err)
	}
	if m.ID != id {
		return Manifest{}, status.WithReason(status.ReasonCorrupt, fmt.Errorf("snapshot %s: manifest: id is %s", id, m.ID))
	}
	return m, nil
}

// Find returns the manifest that what stands for: "latest", an id, or a time in
// RFC 3339 form, meaning the newest snapshot that holds nothing written after
// it. It never passes over a damaged manifest to an older one: which data to go
// back to is for a person to decide. The error wraps ErrNoSnapshots when the
// instance has none at all, ErrNotFound when none fits.
func (c *Catalogue) Find(ctx context.Context, what string) (Manifest, error) {
	notAfter, timeErr := time.Parse(time.RFC3339, what)
	_, idErr := IDTime(what)
	switch {
	case what == "latest":
	case timeErr == nil:
	case idErr == nil:
		return c.chosen(ctx, what)
	default:
		return Manifest{}, status.WithHint(status.ReasonStoreMissing, `give "latest", an id as backup list shows it, or a time such as 2026-11-23T06:15:30Z`,
			fmt.Errorf("%w: %.120q is neither \"latest\" nor an id nor a time", ErrNotFound, what))
	}
	ids, err := c.IDs(ctx)
	if err != nil {
		return Manifest{}, err
	}
	if len(ids) == 0 {
		return Manifest{}, fmt.Errorf("instance %s in %s: %w", c.instance, c.store, ErrNoSnapshots)
	}
	for _, id := range ids {
		at, _ := IDTime(id)
		if what != "latest" && at.After(notAfter) {
			continue
		}
		m, err := c.chosen(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue // deleted a moment ago
		}
		if err != nil {
			return Manifest{}, err
		}
		if what != "latest" && m.CreatedAt.After(notAfter) {
			continue
		}
		return m, nil
	}
	return Manifest{}, fmt.Errorf("%w: none is as old as %s, the oldest is %s", ErrNotFound, what, ids[len(ids)-1])
}

// chosen is Get, with what to do about a manifest that is damaged.
func (c *Catalogue) chosen(ctx context.Context, id string) (Manifest, error) {
	m, err := c.Get(ctx, id)
	if status.ReasonOf(err) == status.ReasonCorrupt && !errors.Is(err, ErrNewerFormat) {
		err = status.WithHint(status.ReasonCorrupt, "name another snapshot by its id; "+hintByHand, err)
	}
	return m, err
}

// Open opens a snapshot's data as stored, see Object. The size is that of the
// stored object; it is for the caller to compare it with the manifest.
func (c *Catalogue) Open(ctx context.Context, m Manifest) (io.ReadCloser, int64, error) {
	r, size, err := c.store.Get(ctx, c.ObjectKey(m))
	if errors.Is(err, fs.ErrNotExist) {
		err = status.WithHint(status.ReasonCorrupt, "the manifest is there but its data is not: something else deletes in this bucket", err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("snapshot %s: %w", m.ID, err)
	}
	return r, size, nil
}

// Delete removes a snapshot: its manifest first, so that what is left of a
// deletion cut short is an orphan and not a snapshot. Deleting what is absent is
// no error.
func (c *Catalogue) Delete(ctx context.Context, id string) error {
	if _, err := IDTime(id); err != nil {
		return fmt.Errorf("delete snapshot: %w: %w", ErrNotFound, err)
	}
	if err := c.store.Delete(ctx, c.manifestKey(id)); err != nil {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return c.deleteObjects(ctx, id)
}

// deleteObjects removes everything in the folder of id.
func (c *Catalogue) deleteObjects(ctx context.Context, id string) error {
	var keys []string
	err := c.store.List(ctx, c.prefix()+id+"/", func(key string, _ int64, _ time.Time) error {
		keys = append(keys, key)
		return nil
	})
	for _, key := range keys {
		err = joined(err, c.store.Delete(ctx, key))
	}
	if err != nil {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}

// Orphan is a folder of objects without a manifest: an upload that still runs,
// or an upload or a deletion cut short. It is invisible to every reader and only
// costs space.
type Orphan struct {
	ID       string
	Size     int64     // bytes of all its objects
	Modified time.Time // of the newest of them
}

// Orphans returns the folders without a manifest in which nothing is newer than
// before, nor their ids: younger ones may be uploads that still run.
func (c *Catalogue) Orphans(ctx context.Context, before time.Time) ([]Orphan, error) {
	_, rest, err := c.scan(ctx)
	return olderThan(rest, before), err
}

func olderThan(orphans []Orphan, before time.Time) []Orphan {
	return slices.DeleteFunc(orphans, func(o Orphan) bool {
		at, _ := IDTime(o.ID) // split lets only valid ones through
		return !o.Modified.Before(before) || !at.Before(before)
	})
}

// deleteOrphan removes the objects of an orphan, unless it has become a
// snapshot by now.
func (c *Catalogue) deleteOrphan(ctx context.Context, id string) error {
	if _, err := c.store.Stat(ctx, c.manifestKey(id)); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = errors.New("it has a manifest")
		}
		return fmt.Errorf("delete orphan %s: %w", id, err)
	}
	return c.deleteObjects(ctx, id)
}

// mayArriveError is of a manifest that the store may have taken, or may take yet:
// a request that was given up can lie in a proxy, or in a server that hangs, until
// it goes on.
type mayArriveError struct{ error }

func (e mayArriveError) Unwrap() error { return e.error }

// publish writes the manifest, which makes the snapshot exist, and reads it back.
func (c *Catalogue) publish(ctx context.Context, m Manifest) error {
	b, err := m.Encode()
	if err != nil {
		return err
	}
	if _, err := c.store.Put(ctx, c.manifestKey(m.ID), bytes.NewReader(b)); err != nil {
		err = fmt.Errorf("write manifest: %w", err)
		switch status.ReasonOf(err) {
		case status.ReasonStoreDenied, status.ReasonStoreMissing, status.ReasonDiskFull, status.ReasonFile:
			return err // refused: it is not there
		}
		return mayArriveError{err}
	}
	r, _, err := c.store.Get(ctx, c.manifestKey(m.ID))
	if err != nil {
		return fmt.Errorf("read manifest back: %w", err)
	}
	defer r.Close()
	back, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return fmt.Errorf("read manifest back: %w", err)
	}
	if !bytes.Equal(b, back) {
		return status.WithReason(status.ReasonVerify, fmt.Errorf("read manifest back: not the %d bytes that were written", len(b)))
	}
	return nil
}
