package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/config"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/scratch"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// restoreFlags are the command's own.
type restoreFlags struct {
	dry, json, force bool
	to               string
}

func restoreCommand() *command {
	var f restoreFlags
	return &command{
		name: "restore", summary: "Put a snapshot into an empty data directory, before redis-server starts: the init container.",
		text: "A directory that holds data is never touched: with restore.if-data=skip that is success, with error it is exit code 4.\n" +
			"Nor is anything restored over the data of restore.peers: when one is the master that is success, otherwise exit code 4.\n" +
			"The snapshot is downloaded beside its place and verified; then it is put in place so that redis-server loads it with\n" +
			"appendonly yes as well as no. Killed at any moment, it leaves a directory that the next run completes.\n\n" +
			"With --to it writes a plain dump.rdb instead, for any use: no data directory, no peers.",
		flags: "  --dry-run\n        Only say what would be restored.\n" +
			"  --json\n        Say it in JSON.\n" +
			"  --to FILE\n        Write the verified RDB to FILE, which gets its name when it is complete. - is standard output: good only if the exit code is 0.\n" +
			"  --force\n        Let --to replace a file.\n",
		exits: exitsCommon + "  3  there is no such snapshot, or none at all and restore.if-none=error\n" +
			"  4  there is data: in the directory and restore.if-data=error, or under other names than the server's, on a peer, or in the file of --to\n",
		sections: []string{"restore", "backup", "redis", "pod", "log"},
		run: func(ctx context.Context, e *env, args []string) error {
			l, err := load(e, args, func(fs *flag.FlagSet) {
				fs.BoolVar(&f.dry, "dry-run", false, "")
				fs.BoolVar(&f.json, "json", false, "")
				fs.BoolVar(&f.force, "force", false, "")
				fs.StringVar(&f.to, "to", "", "")
			})
			if err != nil {
				return err
			}
			if err := noArguments(l.rest); err != nil {
				return err
			}
			switch {
			case f.force && f.to == "":
				return withCode(exitUsage, errors.New("--force is for --to: a data directory is never overwritten"))
			case f.dry && f.to != "":
				return withCode(exitUsage, errors.New("--dry-run and --to exclude each other"))
			}
			c, err := l.openSource(ctx, e)
			if err != nil {
				return err
			}
			if f.to != "" {
				return l.restoreTo(ctx, e, c, f)
			}
			opts, err := l.restoreOptions(ctx, e)
			if err != nil {
				return err
			}
			opts.DryRun = f.dry
			line := newProgressLine(e, l.log, "restore")
			res, err := backup.Restore(ctx, opts, c, l.log, func(p backup.RestoreProgress) { line.show(string(p.Phase), p.String()) })
			line.done()
			if err != nil {
				return snapshotError(err)
			}
			if f.json {
				return printJSON(e.stdout, restoreJSON(res))
			}
			_, err = fmt.Fprintln(e.stdout, restoreSummary(res))
			return err
		},
	}
}

// restoreTo writes a plain dump.
func (l *loaded) restoreTo(ctx context.Context, e *env, c *backup.Catalogue, f restoreFlags) error {
	c, err := l.shardOf(ctx, c)
	if err != nil {
		return snapshotError(err)
	}
	opts := backup.ExportOptions{Selection: backup.Selection{From: l.Restore.From, Pod: l.Restore.Pod}, To: f.to, Force: f.force}
	say := e.stdout
	if f.to == "-" {
		if out, ok := e.stdout.(*os.File); ok && isTerminal(out) {
			return withCode(exitUsage, errors.New("--to -: an RDB is no text for a terminal"))
		}
		opts.To, opts.Out, say = "", e.stdout, e.stderr
	}
	line := newProgressLine(e, l.log, "restore")
	res, err := backup.Export(ctx, opts, c, func(p backup.RestoreProgress) { line.show(string(p.Phase), p.String()) })
	line.done()
	if err != nil {
		return snapshotError(err)
	}
	if f.json {
		return printJSON(say, restoreJSON(res))
	}
	_, err = fmt.Fprintln(say, restoreSummary(res))
	return err
}

// shardOf returns the catalogue of restore.shard; without it, where a cluster's
// snapshots are, the error names the shards.
func (l *loaded) shardOf(ctx context.Context, c *backup.Catalogue) (*backup.Catalogue, error) {
	if s := l.Restore.Shard; s != "" && s != backup.ShardAuto {
		name, _, _ := strings.Cut(s, "/") // the number of a replica
		return c.Shard(name)
	}
	shards, err := c.Shards(ctx)
	if err != nil || len(shards) == 0 {
		return c, err
	}
	if ids, err := c.IDs(ctx); err != nil || len(ids) > 0 {
		return c, err
	}
	names := make([]string, len(shards))
	for i, x := range shards {
		names[i] = backup.ShardOf(x.Instance())
	}
	return nil, withCode(exitUsage, status.WithHint(status.ReasonRejected, "name one with --restore.shard: "+strings.Join(names, ", "),
		fmt.Errorf("instance %s is that of a cluster, whose shards have their own snapshots", c.Instance())))
}

// openSource opens what is restored from: usually where this instance's own
// snapshots are. Anything else is said aloud.
func (l *loaded) openSource(ctx context.Context, e *env) (*backup.Catalogue, error) {
	own := l.Backup
	if l.Restore.Store != "" {
		l.Backup.Store = l.Restore.Store
	}
	if l.Restore.Instance != "" {
		l.Backup.Instance = l.Restore.Instance
	}
	c, err := l.openCatalogue(ctx, e)
	if err != nil {
		return nil, err
	}
	if l.Backup.Instance != own.Instance || l.Backup.Store != own.Store && own.Store != "" {
		l.log.Warn("restoring from elsewhere: this becomes a clone", "from", c.String(), "own_instance", own.Instance,
			"hint", "restore.instance and restore.store say so; without them it is the own instance that is restored")
	}
	return c, nil
}

func (l *loaded) restoreOptions(ctx context.Context, e *env) (backup.RestoreOptions, error) {
	r := l.Restore
	o := backup.RestoreOptions{
		From: r.From, FromPod: r.Pod, Dir: r.Dir,
		IfData: backup.IfData(r.IfData), IfNone: backup.IfNone(r.IfNone),
		RedisVersion: r.RedisVersion, Pod: l.Pod.Name, OnlyPod: r.OnlyPod,
		UID: r.UID, GID: r.GID, Mode: r.Mode,
	}
	var err error
	if o.Peers, err = l.peers(); err != nil {
		return o, err
	}
	conf, err := l.serverConf()
	if err != nil {
		return o, err
	}
	o.Names, o.Follows = conf.names, conf.follows
	if o.Cluster, err = l.clusterRestore(conf); err != nil {
		return o, err
	}
	if r.RedisServer != "" {
		if o.RedisVersion, err = scratch.Version(ctx, r.RedisServer, e.environ); err != nil {
			return o, status.WithHint(status.ReasonOf(err), "set restore.redis-version to what it would say, or run restore where the binary and its libraries are",
				fmt.Errorf("restore.redis-server: %w", err))
		}
	}
	return o, nil
}

func restoreSummary(r backup.RestoreResult) string {
	if r.Skipped != "" {
		return "nothing restored: " + r.Skipped
	}
	if r.Node != "" && r.ID == "" {
		return fmt.Sprintf("%s %s: the node is %s", map[bool]string{false: "placed", true: "would place"}[r.DryRun], r.Layout, r.Node)
	}
	age := time.Since(r.CreatedAt).Round(time.Second)
	if !r.DryRun {
		return fmt.Sprintf("restored %s  %d keys (%s)  %s RDB  snapshot is %s old  %s  as %s",
			r.ID, r.Keys, expiring(r), human.Bytes(r.Bytes), age, seconds(r.Elapsed.Seconds()), r.Layout)
	}
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "\n  %-10s ", name)
		fmt.Fprintf(&b, format, args...)
	}
	fmt.Fprintf(&b, "would restore %s", r.ID)
	line("snapshot", "%s old, of %s in %s, made by a server of version %s (%s)", age, r.Instance, r.Store, r.Server, r.Format)
	line("keys", "%d (%s)", r.Keys, expiring(r))
	line("download", "%s, %s as an RDB", human.Bytes(r.Stored), human.Bytes(r.Bytes))
	if r.Need > 0 { // an interrupted restore that is only finished needs none
		line("space", "%s needed, %s free", human.Bytes(r.Need), human.Bytes(r.Free))
		line("owner", "%s", r.Owner)
	}
	line("layout", "%s", r.Layout)
	if r.Node != "" {
		line("node", "%s", r.Node)
	}
	for _, p := range r.Peers {
		switch {
		case p.Problem != "":
			line("peer", "%s: %s", p, p.Problem)
		default:
			line("peer", "%s: %s, %d keys", p, p.Role, p.Keys)
		}
	}
	return b.String()
}

// expiring says how many keys have a time to live, and for how many it is over.
func expiring(r backup.RestoreResult) string {
	s := fmt.Sprintf("%d with a time to live", r.Expiring)
	switch x := r.Expired; {
	case !x.Known, r.Expiring == 0:
		return s
	case x.Least == x.Most:
		return fmt.Sprintf("%s, over by now for %d: these are dropped on load", s, x.Least)
	default:
		return fmt.Sprintf("%s, over by now for %d to %d: these are dropped on load", s, x.Least, x.Most)
	}
}

// restoredJSON is what --json prints. Nothing that is absent is printed.
type restoredJSON struct {
	Result       string        `json:"result"` // restored, resumed, would restore, would resume, nothing
	Why          string        `json:"why,omitempty"`
	Snapshot     string        `json:"snapshot,omitempty"`
	CreatedAt    *time.Time    `json:"created_at,omitempty"`
	Instance     string        `json:"instance,omitempty"`
	Store        string        `json:"store,omitempty"`
	Server       string        `json:"redis_version,omitempty"`
	Format       string        `json:"rdb_format,omitempty"`
	Keys         *uint64       `json:"keys,omitempty"`
	Expiring     *uint64       `json:"expiring_keys,omitempty"`
	ExpiredLeast *uint64       `json:"expired_keys_least,omitempty"`
	ExpiredMost  *uint64       `json:"expired_keys_most,omitempty"`
	Bytes        int64         `json:"rdb_bytes,omitempty"`
	Stored       int64         `json:"download_bytes,omitempty"`
	Need         int64         `json:"needed_bytes,omitempty"`
	Free         int64         `json:"free_bytes,omitempty"`
	Owner        string        `json:"owner,omitempty"`
	Layout       string        `json:"layout,omitempty"`
	Node         string        `json:"node,omitempty"` // in a restored cluster
	Seconds      float64       `json:"seconds"`
	Peers        []backup.Peer `json:"peers,omitempty"`
}

func restoreJSON(r backup.RestoreResult) restoredJSON {
	out := restoredJSON{Result: "nothing", Why: r.Skipped, Peers: r.Peers, Seconds: r.Elapsed.Seconds()}
	if r.Skipped != "" {
		return out
	}
	out.Result = map[bool]string{false: "restored", true: "resumed"}[r.Resumed]
	if r.DryRun {
		out.Result = map[bool]string{false: "would restore", true: "would resume"}[r.Resumed]
	}
	if r.ID == "" { // a replica
		out.Node, out.Layout = r.Node, r.Layout
		return out
	}
	out.Snapshot, out.CreatedAt, out.Instance, out.Store = r.ID, &r.CreatedAt, r.Instance, r.Store
	out.Server, out.Format, out.Keys, out.Expiring = r.Server, r.Format, &r.Keys, &r.Expiring
	out.Node = r.Node
	out.Bytes, out.Stored, out.Need, out.Free, out.Owner, out.Layout = r.Bytes, r.Stored, r.Need, r.Free, r.Owner, r.Layout
	if r.Expired.Known {
		out.ExpiredLeast, out.ExpiredMost = &r.Expired.Least, &r.Expired.Most
	}
	return out
}

// serverConf is what restore takes from the server's redis.conf.
type serverConf struct {
	names   backup.DataNames
	follows string // its replicaof line

	promotesEmpty bool // cluster-replica-validity-factor 0
}

func (l *loaded) serverConf() (serverConf, error) {
	var c serverConf
	if l.Restore.RedisConf == "" {
		return c, nil
	}
	// Not a check of every command: the agent may have this setting from an
	// environment it shares with the init container, and not the file.
	if _, err := os.Stat(l.Restore.RedisConf); err != nil {
		return c, settings.Problems{{Name: "restore.redis-conf", Value: l.Restore.RedisConf, What: "cannot be read: " + errors.Unwrap(err).Error(), Hint: "is it mounted here, and readable for this user?"}}
	}
	tree, problems := config.Load(l.Restore.RedisConf)
	if len(problems) > 0 {
		p := problems[0]
		todo := p.Hint
		p.Hint = ""
		return c, status.WithHint(status.ReasonOf(problems.Err()), todo, fmt.Errorf("restore.redis-conf: %s", p))
	}
	dir := ""
	for _, d := range tree.Directives { // the last one wins
		switch name := d.Name; {
		case (name == "replicaof" || name == "slaveof") && len(d.Args) == 2:
			c.follows = ""
			if !strings.EqualFold(d.Args[0], "no") { // replicaof no one
				c.follows = fmt.Sprintf("%s %s %s in %s", name, d.Args[0], d.Args[1], cmp.Or(d.File, l.Restore.RedisConf))
			}
		case len(d.Args) != 1:
		case name == "dbfilename":
			c.names.DBFilename = d.Args[0]
		case name == "appenddirname":
			c.names.AppendDirname = d.Args[0]
		case name == "appendfilename":
			c.names.AppendFilename = d.Args[0]
		case name == "cluster-config-file":
			c.names.ClusterConfigFile = d.Args[0]
			if path.Dir(d.Args[0]) == path.Clean(l.Restore.Dir) { // where it would be anyway
				c.names.ClusterConfigFile = path.Base(d.Args[0])
			}
		case name == "cluster-replica-validity-factor", name == "cluster-slave-validity-factor":
			c.promotesEmpty = strings.Trim(d.Args[0], "0") == ""
		case name == "dir":
			dir = d.Args[0]
		}
	}
	if filepath.IsAbs(dir) && filepath.Clean(dir) != filepath.Clean(l.Restore.Dir) {
		l.log.Warn("redis.conf names another data directory: a server ignores what is restored elsewhere, and starts empty",
			"restore_dir", l.Restore.Dir, "dir", dir, "hint", "make them the same, unless the volume is mounted at another path here")
	}
	return c, nil
}
