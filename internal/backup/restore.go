package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// IfData says what Restore does when the data directory already holds data. It
// never touches that data.
type IfData string

// The choices for a directory with data.
const (
	IfDataSkip  IfData = "skip"  // leave it alone and succeed: an init container runs at every start of its pod
	IfDataError IfData = "error" // fail with ErrHasData
)

// IfNone says what Restore does when the instance has no snapshot at all.
type IfNone string

// The choices for an instance without snapshots.
const (
	IfNoneError IfNone = "error" // fail: the server must not start empty unnoticed
	IfNoneEmpty IfNone = "empty" // succeed and leave the directory empty: a new installation, which asks for the latest
)

// ErrHasData is wrapped by the error for a directory that holds data, or may
// hold it, when that is not simply to be skipped.
var ErrHasData = errors.New("the directory holds data")

// RestoreOptions say what to restore and where. Only Dir has to be given.
type RestoreOptions struct {
	From    string // see Catalogue.Find; "" is "latest"
	FromPod string // only a snapshot that this pod made; "" is any

	Dir   string    // the server's data directory (its setting dir), as mounted here; must exist
	Names DataNames // as in the server's redis.conf

	IfData IfData // "" is IfDataSkip
	IfNone IfNone // "" is IfNoneError

	// RedisVersion is the version of the server that will load the data:
	// "7.0.15", or "valkey 9.0.1". When it is "", whether that server can read the
	// snapshot is not checked, and the log says so.
	RedisVersion string

	// Pod is the name of this pod. When OnlyPod is not "", only the pod of that
	// name restores: it is always the master, and the others copy its data.
	Pod, OnlyPod string
	// Follows is not "" when the server will be a replica from its start, and says
	// why, for people: "replicaof redis-0 6379 in redis.conf".
	Follows string
	// Peers are the other servers of this Redis, which are asked first.
	Peers PeerOptions

	// UID and GID are the owner of what is put in place; nil is the owner of Dir.
	// Giving files away takes root.
	UID, GID *int
	// Mode is the mode of the files; 0 gives them the access that Dir gives. See
	// ownership.
	Mode fs.FileMode

	// Cluster makes the node part of a cluster that is restored as a whole; nil: a
	// server on its own.
	Cluster *ClusterRestore

	DryRun bool // only look and say what would be done; changes nothing

	step func(name string) // called after each step that a crash may follow; tests end the process in it
}

// RestoreResult says what Restore did.
type RestoreResult struct {
	ID        string // the snapshot; "" when skipped
	CreatedAt time.Time
	Keys      uint64 // in all databases; 0 when the format is too new to be counted
	Expiring  uint64 // of them, with a time to live: those of which it has passed are dropped on load
	Bytes     int64  // of the plain RDB
	Stored    int64  // bytes downloaded
	Elapsed   time.Duration
	Layout    string // what was put in place, for people
	Node      string // what the node is in its restored cluster, for people; a replica has no snapshot
	Skipped   string // why nothing was restored, for people; "" when something was
	Resumed   bool   // an interrupted restore was finished; nothing was downloaded
	DryRun    bool   // ID to Layout say what would be restored
	Peers     []Peer // what the other servers answered

	Instance, Store string // where the snapshot is
	Server          string // version of the server that made it
	Format          string // of the RDB: "REDIS 10"

	Need, Free int64  // bytes on the volume: that the restore takes, that are free; of a dry run
	Owner      string // of the files, for people; of a dry run

	// Expired says of how many of the expiring keys the time has passed by now, at
	// least and at most: a master drops them when it loads the dump. Known is false
	// when the format was too new to be counted.
	Expired struct {
		Known       bool
		Least, Most uint64
	}
}

// Restore puts a snapshot into an empty data directory, before redis-server
// starts there.
//
// The snapshot is checked against its manifest before any of it gets a name that
// redis-server reads, and whatever moment the process or the machine dies at,
// redis-server finds all of the data, or nothing of it, or refuses to start; the
// next Restore cleans up or finishes. See restore_place.go for how.
//
// A directory that holds data is left as it is. progress, which may be nil, is
// called from this goroutine, a few times a second.
func Restore(ctx context.Context, opts RestoreOptions, cat *Catalogue, log *slog.Logger, progress func(RestoreProgress)) (RestoreResult, error) {
	opts.Names = opts.Names.withDefaults()
	if err := opts.validate(); err != nil {
		return RestoreResult{}, fmt.Errorf("restore: %w", err)
	}
	if progress == nil {
		progress = func(RestoreProgress) {}
	}
	if opts.step == nil {
		opts.step = func(string) {}
	}
	r := &restorer{opts: opts, cat: cat, log: log, meter: newMeter(progress)}
	result, err := r.run(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = status.WithReason(status.ReasonCanceled, err)
		}
		return RestoreResult{}, fmt.Errorf("restore: %w", err)
	}
	result.DryRun = opts.DryRun
	result.Elapsed = time.Since(r.meter.began)
	return result, nil
}

func (o *RestoreOptions) validate() error {
	if o.From == "" {
		o.From = "latest"
	}
	if o.IfData == "" {
		o.IfData = IfDataSkip
	}
	if o.IfNone == "" {
		o.IfNone = IfNoneError
	}
	o.Peers.IfData = cmp.Or(o.Peers.IfData, IfPeersHeed)
	o.Peers.IfUnclear = cmp.Or(o.Peers.IfUnclear, IfPeersHeed)
	switch {
	case o.Dir == "":
		return status.WithHint(status.ReasonFile, "set restore.dir to where the data volume is mounted", errors.New("no data directory is given"))
	case o.IfData != IfDataSkip && o.IfData != IfDataError:
		return fmt.Errorf("if data: %q is neither %q nor %q", o.IfData, IfDataSkip, IfDataError)
	case o.IfNone != IfNoneError && o.IfNone != IfNoneEmpty:
		return fmt.Errorf("if none: %q is neither %q nor %q", o.IfNone, IfNoneError, IfNoneEmpty)
	case o.Peers.IfData != IfPeersHeed && o.Peers.IfData != IfPeersRestore:
		return fmt.Errorf("if peers: %q is neither %q nor %q", o.Peers.IfData, IfPeersHeed, IfPeersRestore)
	case o.Peers.IfUnclear != IfPeersHeed && o.Peers.IfUnclear != IfPeersRestore:
		return fmt.Errorf("if peers are unclear: %q is neither %q nor %q", o.Peers.IfUnclear, IfPeersHeed, IfPeersRestore)
	case o.Mode&^fs.ModePerm != 0:
		return fmt.Errorf("mode %v is more than permission bits", o.Mode)
	}
	return o.Names.validate()
}

// restorer is one call of Restore.
type restorer struct {
	opts  RestoreOptions
	cat   *Catalogue
	log   *slog.Logger
	meter *meter

	found *Manifest    // by find
	peers []Peer       // as asked last
	seat  *clusterSeat // nil outside of a cluster
}

func (r *restorer) run(ctx context.Context) (RestoreResult, error) {
	unlock, err := lockDir(r.opts.Dir)
	if err != nil {
		return RestoreResult{}, err
	}
	defer unlock()

	if result, finished, err := r.recoverInterrupted(); finished || err != nil {
		return result, err
	}
	dir, err := inspectDir(r.opts.Dir, r.opts.Names)
	if err != nil {
		return RestoreResult{}, err
	}
	if skipped, err := r.judge(dir); skipped != "" || err != nil {
		return RestoreResult{Skipped: skipped}, err
	}
	if skipped := r.follows(); skipped != "" {
		return RestoreResult{Skipped: skipped}, nil
	}
	if len(r.opts.Peers.Addresses) > 0 {
		r.meter.phase(PhaseAsk, 0)
	}
	if skipped, err := r.heedPeers(ctx, r.opts.Peers.Wait); skipped != "" || err != nil {
		return RestoreResult{Skipped: skipped, Peers: r.peers}, err
	}

	if r.opts.Cluster != nil {
		if result, done, err := r.joinCluster(ctx, dir); done || err != nil {
			return result, err
		}
	}
	r.meter.phase(PhaseFind, 0)
	m, err := r.find(ctx)
	if errors.Is(err, ErrNoSnapshots) && r.opts.IfNone == IfNoneEmpty && r.opts.From == "latest" {
		r.log.Warn("there is no snapshot yet: the server starts empty", "store", r.cat.String())
		return RestoreResult{Skipped: "there is no snapshot yet"}, nil
	}
	if err != nil {
		return RestoreResult{}, err
	}
	if err := r.checkReadable(m); err != nil {
		return RestoreResult{}, err
	}
	if _, err := r.cat.checkKey(m); err != nil {
		return RestoreResult{}, err
	}
	r.warn(m)
	result := describeResult(m)
	result.Peers, result.Store = r.peers, r.cat.store.String()
	plan := newPlacement(r.opts, m)
	if r.seat != nil {
		result.Node = r.seat.describe()
		plan.nodes, plan.state.Nodes = r.seat.nodesConf(), r.opts.Names.ClusterConfigFile
	}
	if r.opts.DryRun {
		return r.plan(result, plan, dir)
	}
	if err := r.restore(ctx, plan, m, dir); err != nil {
		if late, ok := errors.AsType[*lateSkipError](err); ok {
			return RestoreResult{Skipped: late.why, Peers: r.peers}, nil
		}
		return RestoreResult{}, r.hintOlder(ctx, m.ID, err)
	}
	result.Layout = plan.describe()
	r.log.Info("restored", append(r.facts(result), "seconds", roundSeconds(time.Since(r.meter.began)))...)
	return result, nil
}

// describeResult is what a manifest says of what is restored.
func describeResult(m Manifest) RestoreResult {
	res := RestoreResult{
		ID: m.ID, CreatedAt: m.CreatedAt, Keys: m.RDB.Keys, Expiring: m.RDB.Expires,
		Bytes: m.RDB.Size, Stored: m.Object.Size,
		Instance: m.Instance, Server: m.Server.Version, Format: fmt.Sprintf("%s %d", m.RDB.Magic, m.RDB.Version),
	}
	if m.RDB.Walked {
		res.Expired.Known = true
		res.Expired.Least, res.Expired.Most = m.ExpiredBy(time.Now())
	}
	return res
}

// plan adds what else a dry run tells, and checks what can be checked without
// writing.
func (r *restorer) plan(res RestoreResult, p *placement, dir dataDir) (RestoreResult, error) {
	owner, err := ownerFor(r.opts, dir)
	if err != nil {
		return RestoreResult{}, err
	}
	if w := owner.warning(); w != "" {
		r.log.Warn("the server may be unable to use the restored files", "why", w)
	}
	res.Layout, res.Owner = p.describe(), owner.String()
	// Links are assumed to work: finding out would take writing.
	res.Need = p.copies(true)*res.Bytes + spaceSlack
	if res.Free, err = availableBytes(r.opts.Dir); err != nil {
		return RestoreResult{}, diskError("free space of "+r.opts.Dir, err)
	}
	if err := checkSpace(r.opts.Dir, p.copies(true), res.Bytes, dir.leftovers); err != nil {
		return RestoreResult{}, err
	}
	r.log.Info("would restore", r.facts(res)...)
	return res, nil
}

// restore does all that writes. On an error nothing of it stays, unless the
// directory is already past the point from which the next run goes forward.
func (r *restorer) restore(ctx context.Context, p *placement, m Manifest, dir dataDir) (err error) {
	r.log.Info("restoring", "snapshot", m.ID, "bytes", m.RDB.Size, "download_bytes", m.Object.Size, "dir", r.opts.Dir)
	owner, err := ownerFor(r.opts, dir)
	if err != nil {
		return err
	}
	if w := owner.warning(); w != "" {
		r.log.Warn("the server may be unable to use the restored files", "why", w)
	}
	if err := p.begin(); err != nil {
		return err
	}
	defer func() {
		if err != nil && !p.committed {
			if left := p.abandon(); left != nil {
				err = fmt.Errorf("%w (and cleaning up: %w)", err, left)
			}
		}
	}()
	if err := checkSpace(r.opts.Dir, p.copies(p.links), m.RDB.Size, dir.leftovers); err != nil {
		return err
	}
	r.meter.phase(PhaseDownload, m.Object.Size)
	if err := p.download(ctx, r.cat, m, r.meter); err != nil {
		return err
	}
	r.meter.phase(PhasePlace, 0)
	if err := p.stage(owner); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // from here on it is quicker to finish than to stop
		return err
	}
	now, err := inspectDir(r.opts.Dir, r.opts.Names)
	if err != nil {
		return err
	}
	if found := now.found(); len(found) > 0 {
		return status.WithHint(status.ReasonFile, "a redis-server must not run in the directory while it is restored",
			fmt.Errorf("%w: %s appeared in %s meanwhile", ErrHasData, strings.Join(found, ", "), r.opts.Dir))
	}
	// The download may have taken an hour. Somebody else may have become the
	// master meanwhile.
	if skipped, err := r.heedPeers(ctx, 0); err != nil {
		return err
	} else if skipped != "" {
		return &lateSkipError{skipped}
	}
	if r.seat != nil {
		if err := r.seat.recheck(ctx); err != nil {
			return err
		}
	}
	return p.place()
}

// lateSkipError ends a restore that has become pointless while it ran.
type lateSkipError struct{ why string }

func (e *lateSkipError) Error() string { return e.why }

// follows tells why the server will be a replica, whose data its master replaces;
// "" when it is not known to be one.
func (r *restorer) follows() (skipped string) {
	switch o := r.opts; {
	case o.Follows != "":
		skipped = "this server is a replica and copies its master: " + o.Follows
	case o.OnlyPod != "" && o.OnlyPod != o.Pod:
		skipped = fmt.Sprintf("only %s restores, and this is %s, which copies it", o.OnlyPod, o.Pod)
	}
	if skipped != "" {
		r.log.Info("not restored", "why", skipped)
	}
	return skipped
}

// judge decides about a directory that is not plainly empty. skipped is the
// reason, for people, to succeed without restoring.
func (r *restorer) judge(dir dataDir) (skipped string, err error) {
	for _, l := range dir.leftovers {
		r.log.Info("leftover of a killed redis-server; it takes space and is safe to remove", "file", l.name, "bytes", l.size)
	}
	switch {
	case dir.placeholder && len(dir.found()) > 0:
		// recoverInterrupted would have removed it or put the dump in its place,
		// had not somebody removed the working directory that belongs to it.
		return "", status.WithHint(status.ReasonFile, "empty "+r.opts.Dir+" by hand to restore again",
			fmt.Errorf("%w, but %s is the placeholder of an interrupted restore whose working directory is gone", ErrHasData, r.opts.Names.DBFilename))
	case len(dir.data) > 0, len(dir.cluster) > 0:
		found := strings.Join(slices.Concat(dir.data, dir.cluster), ", ")
		if r.opts.IfData == IfDataError {
			return "", status.WithHint(status.ReasonFile, "empty "+r.opts.Dir+" to restore, or set restore.if-data to skip",
				fmt.Errorf("%w: %s in %s", ErrHasData, found, r.opts.Dir))
		}
		if len(dir.data) == 0 {
			r.log.Warn("not restored: the directory belongs to a cluster node, whose cluster says what it holds", "dir", r.opts.Dir, "found", found)
			return "the directory belongs to a cluster node: " + found, nil
		}
		r.log.Info("not restored: the directory holds data", "dir", r.opts.Dir, "found", found)
		if dir.staleSeed {
			r.log.Warn("the append-only files are as an earlier restore left them, the dump is newer: a start with appendonly yes would load the old ones",
				"old", r.opts.Names.AppendDirname, "newer", r.opts.Names.DBFilename, "hint", "turn it on at run time: CONFIG SET appendonly yes")
		}
		return "the directory holds data: " + found, nil
	case dir.unclear != nil:
		return "", fmt.Errorf("cannot tell whether the directory holds data: %w", dir.unclear)
	case len(dir.strange) > 0:
		return "", status.WithHint(status.ReasonFile, "if the server uses it, set its name as in redis.conf; if it is an old copy, move it out of the directory",
			fmt.Errorf("%w under another name: %s in %s, expected %s or %s", ErrHasData, strings.Join(dir.strange, ", "), r.opts.Dir,
				r.opts.Names.DBFilename, r.opts.Names.AppendDirname))
	}
	return "", nil
}

// find asks the catalogue and adds to its errors what else there is.
func (r *restorer) find(ctx context.Context) (Manifest, error) {
	if r.found != nil {
		return *r.found, nil
	}
	m, err := r.cat.Select(ctx, Selection{From: r.opts.From, Pod: r.opts.FromPod})
	switch {
	case errors.Is(err, ErrNoSnapshots):
		if ofCluster := r.ofCluster(ctx); ofCluster != nil {
			return m, ofCluster
		}
		return m, status.WithHint(status.ReasonStoreMissing,
			"check backup.store and backup.instance, or restore.store and restore.instance if they are set; for a new installation set restore.if-none to empty", err)
	case errors.Is(err, ErrNotFound):
		hint := status.HintOf(err)
		if ids, listErr := r.cat.IDs(ctx); listErr == nil && hint == "" {
			hint = snapshotHint(ids)
		}
		return m, status.WithHint(status.ReasonStoreMissing, hint, err)
	case err != nil:
		return m, err
	}
	r.found = &m
	return m, nil
}

// ofCluster is the error when the instance has no snapshots of its own because it
// is a cluster's: to start empty beside those of its shards would not be a first
// installation.
func (r *restorer) ofCluster(ctx context.Context) error {
	shards, err := r.cat.Shards(ctx)
	if err != nil || len(shards) == 0 {
		return err
	}
	return status.WithHint(status.ReasonStoreMissing,
		"set restore.shard and restore.cluster-peers to restore the cluster, or restore.instance to one of its shards, such as "+shards[0].Instance(),
		fmt.Errorf("instance %s in %s: %w: it is that of a cluster, whose shards have their own snapshots", r.cat.instance, r.cat.store, ErrNotFound))
}

// snapshotHint names the newest of ids, which are sorted newest first.
func snapshotHint(ids []string) string {
	const shown = 3
	switch n := len(ids); {
	case n == 0:
		return "the instance has no snapshot: check backup.store and backup.instance"
	case n <= shown:
		return "there are: " + strings.Join(ids, ", ")
	default:
		return fmt.Sprintf("the newest of %d are: %s; see backup list", n, strings.Join(ids[:shown], ", "))
	}
}

// hintOlder names the snapshot before a damaged one. It is for a person to choose
// it: what was written in between would be lost.
func (r *restorer) hintOlder(ctx context.Context, id string, err error) error {
	if status.ReasonOf(err) != status.ReasonCorrupt {
		return err
	}
	ids, listErr := r.cat.IDs(ctx)
	if listErr != nil {
		return err
	}
	for _, older := range ids {
		if older < id {
			return status.WithHint(status.ReasonCorrupt, status.HintOf(err)+"; the one before it is "+older, err)
		}
	}
	return err
}

// checkReadable refuses a snapshot that would send the server into a crash loop.
func (r *restorer) checkReadable(m Manifest) error {
	if r.opts.RedisVersion == "" {
		r.log.Info("the server's version is not known: not checked whether it can read the snapshot",
			"rdb_version", m.RDB.Version, "made_by", m.Server.Version, "hint", "set restore.redis-version, or restore.redis-server to its binary")
		return nil
	}
	server, version := splitServer(r.opts.RedisVersion)
	ok, known := rdb.CanLoad(server, version, rdb.Summary{Magic: m.RDB.Magic, Version: m.RDB.Version})
	switch {
	case !known && !ok:
		r.log.Info("not known what this server can read: not checked",
			"server", r.opts.RedisVersion, "rdb_version", m.RDB.Version, "made_by", m.Server.Version)
	case !ok:
		return status.WithHint(status.ReasonRejected, "start a server like the one that wrote it, or newer; or restore an older snapshot",
			fmt.Errorf("snapshot %s: %s %s cannot read its format, %s %d, written by a server of version %s",
				m.ID, server, version, m.RDB.Magic, m.RDB.Version, m.Server.Version))
	}
	return nil
}

// warn says what a person should know before the server starts from a snapshot.
func (r *restorer) warn(m Manifest) {
	if Ahead(m.CreatedAt, time.Now()) {
		r.log.Warn("the snapshot is dated in the future: a clock is or was wrong, and others may hold newer data",
			"snapshot", m.ID, "hint", "see backup list, and name one by its id")
	}
	if len(m.Slots) > 0 && r.seat == nil {
		r.log.Warn("the snapshot is of one shard of a cluster: a node that starts from it claims the slots of its keys",
			"snapshot", m.ID, "shard_of", m.Server.Pod, "hint", "do not let it meet a running cluster that owns these slots; restore.shard restores a whole cluster")
	}
}

// splitServer takes "7.0.15" or "valkey 9.0.1" apart.
func splitServer(s string) (name, version string) {
	name, version, ok := strings.Cut(strings.TrimSpace(s), " ")
	if !ok {
		return "redis", name
	}
	return strings.ToLower(name), strings.TrimSpace(version)
}

// facts are the attributes of the line that sums up.
func (r *restorer) facts(res RestoreResult) []any {
	facts := []any{
		"snapshot", res.ID, "age", time.Since(res.CreatedAt).Round(time.Second), "keys", res.Keys,
		"bytes", res.Bytes, "dir", r.opts.Dir, "layout", res.Layout,
	}
	switch {
	case res.Expired.Known && res.Expired.Most > 0:
		facts = append(facts, "expiring_keys", res.Expiring, "expired_by_now", res.Expired.Least, "at_most", res.Expired.Most,
			"note", "those are dropped by a master when it loads the dump")
	case res.Expiring > 0:
		facts = append(facts, "expiring_keys", res.Expiring,
			"note", "keys whose time to live has passed since the snapshot are dropped by the server")
	}
	return facts
}

func roundSeconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond).Milliseconds()) / 1000
}

// beforeMultiPart reports whether a server keeps its append-only data in one
// file, as all did before 7.0.
func beforeMultiPart(server string) bool {
	_, version := splitServer(server)
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 7
}
