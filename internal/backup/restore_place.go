package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// How a restore survives a crash.
//
// Everything is prepared in a working directory that redis-server does not look
// at, inside the data directory and so on its file system:
//
//	.redis-sidecar-restore/state.json      which snapshot, which phase
//	.redis-sidecar-restore/dump            the verified RDB
//	.redis-sidecar-restore/placeholder     see below
//	.redis-sidecar-restore/aof/            base (the same inode as dump), manifest
//
// When all of it is on disk, state.json says so (phasePlacing), and three renames
// put it in place, each followed by an fsync of the data directory:
//
//	1  placeholder → dump.rdb        under appendonly no the server refuses to start
//	2  aof/        → appendonlydir   complete under appendonly yes, still refused under no
//	3  dump        → dump.rdb        complete under both
//
// Before 2 nothing is in place and the next run starts over. After 2 it does 3.
// A base file without its manifest, which redis-server would overwrite with an
// empty one, never has a name that redis-server reads.
//
// The base may share an inode with the dump because redis-server never writes
// into either: it replaces the dump by rename and drops the old base after a
// rewrite. Before Redis 7 the append-only file was one file and was appended to,
// so there it is a copy.
//
// For a cluster (see restore_cluster.go) two renames stand around these, so that
// neither a node without its data nor data without its node, which would claim
// slots of its own accord, can start:
//
//	0  placeholder → nodes.conf      the server refuses to start
//	4  nodes       → nodes.conf

const (
	stagingName  = ".redis-sidecar-restore"
	stateName    = "state.json"
	stagedDump   = "dump"
	stagedAOF    = "aof"
	stagedHolder = "placeholder"
	stagedNodes  = "nodes"

	phaseFetching = "fetching"
	phasePlacing  = "placing"

	stateVersion = 1
)

// placeholderMagic begins the placeholder. It is not the signature of an RDB, so
// redis-server refuses the file and exits.
const placeholderMagic = "redis-sidecar placeholder\n"

// restoreState is the content of state.json.
type restoreState struct {
	Version  int       `json:"version"`
	Phase    string    `json:"phase"`
	ID       string    `json:"id"`
	Created  time.Time `json:"created_at"` // of the snapshot
	Keys     uint64    `json:"keys"`
	Expiring uint64    `json:"expiring_keys"`
	Bytes    int64     `json:"bytes"`
	Dump     string    `json:"dump"`            // name of the dump in the data directory
	AOF      string    `json:"aof"`             // name of the append-only directory or file there
	Nodes    string    `json:"nodes,omitempty"` // name of the cluster configuration there; "" without a cluster
	Layout   string    `json:"layout"`          // for people
}

// placement puts one snapshot into a data directory.
type placement struct {
	dir       string
	names     DataNames
	single    bool // one append-only file, as before Redis 7
	links     bool // the base is a hard link of the dump
	committed bool // past the second rename: only forward from here
	state     restoreState
	nodes     string // content of the cluster configuration; "" is none
	step      func(string)
}

// newPlacement plans; it touches nothing.
func newPlacement(opts RestoreOptions, m Manifest) *placement {
	version := opts.RedisVersion
	if version == "" {
		version = m.Server.Version // 7 and later take up the single file, too
	}
	p := &placement{dir: opts.Dir, names: opts.Names, single: beforeMultiPart(version), step: opts.step, links: true}
	if p.single {
		p.links = false
	}
	p.state = restoreState{
		Version: stateVersion, Phase: phaseFetching, ID: m.ID, Created: m.CreatedAt,
		Keys: m.RDB.Keys, Expiring: m.RDB.Expires, Bytes: m.RDB.Size,
		Dump: opts.Names.DBFilename, AOF: opts.Names.AppendDirname,
	}
	if p.single {
		p.state.AOF = opts.Names.AppendFilename
	}
	return p
}

// describe says what is put in place, for people.
func (p *placement) describe() string {
	text := p.describeData()
	if p.state.Nodes != "" {
		text += ", and " + p.state.Nodes
	}
	return text
}

func (p *placement) describeData() string {
	switch {
	case p.single:
		return p.state.Dump + " and " + p.state.AOF + " (as before Redis 7)"
	case p.links:
		return p.state.Dump + " and " + p.state.AOF + ", one file under both names"
	default:
		return p.state.Dump + " and " + p.state.AOF
	}
}

// copies returns how often the RDB takes space while it is put in place.
func (p *placement) copies(links bool) int64 {
	if links && !p.single {
		return 1
	}
	return 2
}

func (p *placement) staging(name ...string) string {
	return filepath.Join(append([]string{p.dir, stagingName}, name...)...)
}

// begin makes the working directory and finds out whether files can be linked.
func (p *placement) begin() error {
	if err := os.Mkdir(p.staging(), 0o700); err != nil {
		return diskError("make working directory", err)
	}
	p.step("made")
	if err := errors.Join(p.writeState(phaseFetching), syncDir(p.dir)); err != nil {
		return errors.Join(err, p.abandon())
	}
	p.step("begun")
	if p.links {
		p.links = os.Link(p.staging(stateName), p.staging("link")) == nil
		_ = os.Remove(p.staging("link"))
	}
	return nil
}

// download writes the verified RDB into the working directory.
func (p *placement) download(ctx context.Context, cat *Catalogue, m Manifest, meter *meter) (err error) {
	f, err := os.OpenFile(p.staging(stagedDump), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return diskError("write dump", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = diskError("write dump", closeErr)
		}
	}()
	dump, err := newDumpFile(f, m)
	if err != nil {
		return err
	}
	half := false
	err = cat.readVerified(ctx, m, dump, func(stored, plain int64) {
		meter.at(stored)
		if !half && plain >= m.RDB.Size/2 {
			half = true
			p.step("downloading")
		}
	})
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return diskError("write dump", err)
	}
	p.step("downloaded")
	return nil
}

// dumpFile writes no more than what a manifest announced: a damaged object can
// decompress to anything.
type dumpFile struct {
	f     *os.File
	left  int64 // bytes
	begun int64 // bytes that are on their way to the disk
	m     Manifest
}

// newDumpFile makes sure that there is room for all of it.
func newDumpFile(f *os.File, m Manifest) (*dumpFile, error) {
	if err := reserve(f, m.RDB.Size); err != nil {
		return nil, diskError("reserve room for the dump", err)
	}
	return &dumpFile{f: f, left: m.RDB.Size, m: m}, nil
}

func (d *dumpFile) Write(b []byte) (int, error) {
	if int64(len(b)) > d.left {
		return 0, damaged(d.m.ID, fmt.Errorf("the RDB is larger than the %d bytes that the manifest says", d.m.RDB.Size))
	}
	n, err := d.f.Write(b)
	d.left -= int64(n)
	if err != nil {
		return n, diskError("write dump", err)
	}
	const worth = 8 << 20
	if written := d.m.RDB.Size - d.left; written-d.begun >= worth {
		startWriteback(d.f, d.begun, written-d.begun)
		d.begun = written
	}
	return n, nil
}

// stage prepares everything else beside the downloaded dump, and makes it durable.
func (p *placement) stage(owner ownership) error {
	if err := owner.file(p.staging(stagedDump)); err != nil {
		return err
	}
	if err := p.stageAOF(owner); err != nil {
		return err
	}
	text := placeholderMagic + "The restore of snapshot " + p.state.ID + " was interrupted at its last step.\n" +
		"Run it again: it finishes in a moment. redis-server refuses this file on purpose.\n"
	if err := writeFile(p.staging(stagedHolder), text, owner); err != nil {
		return err
	}
	if p.state.Nodes != "" {
		if err := errors.Join(writeFile(p.staging(stagedNodes+".placeholder"), text, owner), writeFile(p.staging(stagedNodes), p.nodes, owner)); err != nil {
			return err
		}
	}
	if err := syncDir(p.staging()); err != nil {
		return err
	}
	p.step("staged")
	return nil
}

func (p *placement) stageAOF(owner ownership) error {
	base := p.staging(stagedAOF)
	if !p.single {
		if err := os.Mkdir(base, 0o700); err != nil {
			return diskError("prepare append-only directory", err)
		}
		base = p.staging(stagedAOF, p.names.base())
	}
	if p.links {
		if err := os.Link(p.staging(stagedDump), base); err != nil {
			return diskError("link the base file", err)
		}
	} else if err := copyFile(base, p.staging(stagedDump), owner); err != nil {
		return err
	}
	p.step("base")
	if p.single {
		return nil
	}
	if err := writeFile(p.staging(stagedAOF, p.names.manifest()), p.names.manifestText(), owner); err != nil {
		return err
	}
	if err := owner.dir(p.staging(stagedAOF)); err != nil {
		return err
	}
	return syncDir(p.staging(stagedAOF))
}

// place does the three renames.
func (p *placement) place() error {
	if err := p.writeState(phasePlacing); err != nil {
		return err
	}
	p.step("placing")
	if p.state.Nodes != "" {
		if err := p.rename(stagedNodes+".placeholder", p.state.Nodes); err != nil {
			return err
		}
		p.step("nodes placeholder")
	}
	if err := p.rename(stagedHolder, p.state.Dump); err != nil {
		return err
	}
	p.step("placeholder")
	err := p.rename(stagedAOF, p.state.AOF)
	p.committed = !exists(p.staging(stagedAOF)) // even when the rename could not be synced
	if err != nil {
		return err
	}
	p.step("aof")
	return p.finish()
}

// finish does the last rename, unless it is done, and removes the working
// directory. A dump that the server has written meanwhile stays.
func (p *placement) finish() error {
	holder, err := isPlaceholder(filepath.Join(p.dir, p.state.Dump))
	if err != nil {
		return err
	}
	if exists(p.staging(stagedDump)) && (holder || !exists(filepath.Join(p.dir, p.state.Dump))) {
		if err := p.rename(stagedDump, p.state.Dump); err != nil {
			return err
		}
	}
	p.step("dump")
	if err := p.finishNodes(); err != nil {
		return err
	}
	return removeStaging(p.dir, p.step)
}

// finishNodes puts the cluster configuration in the place of its placeholder,
// unless that is done.
func (p *placement) finishNodes() error {
	if p.state.Nodes == "" || !exists(p.staging(stagedNodes)) {
		return nil
	}
	holder, err := isPlaceholder(filepath.Join(p.dir, p.state.Nodes))
	if err != nil {
		return err
	}
	if holder || !exists(filepath.Join(p.dir, p.state.Nodes)) {
		if err := p.rename(stagedNodes, p.state.Nodes); err != nil {
			return err
		}
	}
	p.step("nodes")
	return nil
}

// rename moves something of the working directory into the data directory, for
// good. An empty directory of that name is replaced, which os.Rename would refuse.
func (p *placement) rename(from, to string) error {
	if err := unix.Rename(p.staging(from), filepath.Join(p.dir, to)); err != nil {
		return diskError("put "+to+" in place in "+p.dir, err)
	}
	return syncDir(p.dir)
}

// abandon removes all that the restore has written.
func (p *placement) abandon() error { return abandon(p.dir, p.step, p.state.Dump, p.state.Nodes) }

// abandon removes those of the names that are placeholders, and the working
// directory. The last placeholder goes last: until then no server starts.
func abandon(dir string, step func(string), names ...string) error {
	for _, name := range names {
		if name == "" {
			continue
		}
		holder, err := isPlaceholder(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if holder {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return diskError("remove placeholder", err)
			}
			step("placeholder removed")
		}
	}
	return removeStaging(dir, step)
}

// removeStaging removes the working directory, its state first: once that is
// gone, the rest is litter to every later run.
func removeStaging(dir string, step func(string)) error {
	staging := filepath.Join(dir, stagingName)
	if err := os.Remove(filepath.Join(staging, stateName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove working directory", err)
	}
	if exists(staging) {
		if err := syncDir(staging); err != nil {
			return err
		}
	}
	step("state removed")
	if err := os.RemoveAll(staging); err != nil {
		return diskError("remove working directory", err)
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	step("working directory removed")
	return nil
}

func (p *placement) writeState(phase string) error {
	p.state.Phase, p.state.Layout = phase, p.describe()
	b, err := json.Marshal(p.state)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	temp := p.staging(stateName + ".tmp")
	if err := writeFile(temp, string(b)+"\n", ownership{fileMode: 0o600, uid: -1, gid: -1}); err != nil {
		return err
	}
	if err := os.Rename(temp, p.staging(stateName)); err != nil {
		return diskError("write state", err)
	}
	return syncDir(p.staging())
}

// readState returns the state of the working directory in dir. A nil state means
// that there is a working directory without one; exists is false when there is
// no working directory.
func readState(dir string) (_ *restoreState, exists bool, err error) {
	staging := filepath.Join(dir, stagingName)
	if _, err := os.Lstat(staging); errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	f, err := os.Open(filepath.Join(staging, stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, true, diskError("read the state of an interrupted restore", err)
	}
	defer func() { _ = f.Close() }() // only read
	st, err := parseState(f)
	if err != nil {
		return nil, true, status.WithHint(status.ReasonCorrupt, "remove "+staging+" by hand, and the dump if it is a placeholder",
			fmt.Errorf("%s: %w", filepath.Join(staging, stateName), err))
	}
	return st, true, nil
}

func parseState(r io.Reader) (*restoreState, error) {
	b, err := io.ReadAll(io.LimitReader(r, 16<<10))
	if err != nil {
		return nil, err
	}
	var st restoreState
	if err := json.Unmarshal(b, &st); err != nil {
		return nil, err
	}
	names := DataNames{DBFilename: st.Dump, AppendDirname: st.AOF, AppendFilename: "x", ClusterConfigFile: cmp.Or(st.Nodes, "nodes.conf")}
	switch {
	case st.Version != stateVersion:
		return nil, fmt.Errorf("version %d is not known", st.Version)
	case st.Phase != phaseFetching && st.Phase != phasePlacing:
		return nil, fmt.Errorf("phase %.40q is not known", st.Phase)
	case st.Dump == "" || st.AOF == "":
		return nil, errors.New("names are missing")
	}
	return &st, names.validate()
}

// recoverInterrupted deals with what an earlier run left behind. finished is
// true when that was so far that it could only be completed.
func (r *restorer) recoverInterrupted() (_ RestoreResult, finished bool, err error) {
	st, found, err := readState(r.opts.Dir)
	if err != nil {
		return RestoreResult{}, false, err
	}
	if st != nil && st.committed(r.opts.Dir) {
		result := st.result()
		if r.opts.DryRun {
			r.log.Info("would finish an interrupted restore", r.facts(result)...)
			return result, true, nil
		}
		p := &placement{dir: r.opts.Dir, state: *st, step: r.opts.step}
		if err := p.finish(); err != nil {
			return RestoreResult{}, false, fmt.Errorf("finish the interrupted restore of snapshot %s: %w", st.ID, err)
		}
		r.log.Info("finished an interrupted restore", append(r.facts(result), "asked_for", r.opts.From)...)
		return result, true, nil
	}
	dump, nodes := r.opts.Names.DBFilename, r.opts.Names.ClusterConfigFile
	if found {
		id := "unknown"
		if st != nil {
			id, dump, nodes = st.ID, st.Dump, cmp.Or(st.Nodes, nodes)
		}
		r.log.Warn("an earlier restore was interrupted: starting over", "snapshot", id)
	} else {
		// A placeholder alone is what removing the working directory by hand at
		// the wrong moment leaves. Beside append-only files it is not for us to
		// decide what it stands for.
		dir, err := inspectDir(r.opts.Dir, r.opts.Names)
		if err != nil || !dir.placeholder || len(dir.found()) > 0 {
			return RestoreResult{}, false, err
		}
	}
	if r.opts.DryRun {
		return RestoreResult{}, false, nil
	}
	return RestoreResult{}, false, abandon(r.opts.Dir, r.opts.step, dump, nodes)
}

// committed reports whether the second rename was done: the append-only part has
// left the working directory and stands in the data directory.
func (st *restoreState) committed(dir string) bool {
	return st.Phase == phasePlacing && !exists(filepath.Join(dir, stagingName, stagedAOF)) && exists(filepath.Join(dir, st.AOF))
}

func (st *restoreState) result() RestoreResult {
	return RestoreResult{
		ID: st.ID, CreatedAt: st.Created, Keys: st.Keys, Expiring: st.Expiring, Bytes: st.Bytes,
		Layout: st.Layout, Resumed: true,
	}
}
