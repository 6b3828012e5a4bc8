package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// allShards is the value of --shard for each of them in turn.
const allShards = "all"

const (
	shardFlag  = "  --shard NAME\n        Of one shard of a cluster.\n"
	shardsFlag = "  --shard NAME\n        Of one shard of a cluster; all, the default where the instance is a cluster's, is each in turn.\n"
)

// shardChoice is the flag --shard of the commands about a catalogue.
type shardChoice struct {
	name  string
	flags *flag.FlagSet
	each  bool // the command can be done for all shards
}

func (s *shardChoice) add(fs *flag.FlagSet) {
	s.flags = fs
	fs.StringVar(&s.name, "shard", "", "")
}

// json reports whether the command was asked for JSON.
func (s *shardChoice) json() bool {
	f := s.flags.Lookup("json")
	return f != nil && f.Value.String() == "true"
}

// catalogues returns those that the command is about: one, or that of every
// shard. Without --shard a cluster is recognised by its instance holding nothing
// itself.
func (s *shardChoice) catalogues(ctx context.Context, c *backup.Catalogue) ([]*backup.Catalogue, error) {
	switch {
	case s.name == allShards && s.each:
	case s.name == allShards:
		return nil, withCode(exitUsage, errors.New("--shard: all is not for this command, name one"))
	case s.name != "":
		if err := backup.ValidShard(s.name); err != nil || s.name == backup.ShardAuto || s.name == backup.ShardNone {
			return nil, withCode(exitUsage, fmt.Errorf("--shard: %q is not the name of a shard, such as 05461", s.name))
		}
		one, err := c.Shard(s.name)
		return []*backup.Catalogue{one}, err
	default:
		if ids, err := c.IDs(ctx); err != nil || len(ids) > 0 {
			return []*backup.Catalogue{c}, err
		}
	}
	shards, err := c.Shards(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(shards) == 0:
		return []*backup.Catalogue{c}, nil
	case !s.each:
		names := make([]string, len(shards))
		for i, x := range shards {
			names[i] = backup.ShardOf(x.Instance())
		}
		return nil, withCode(exitUsage, status.WithHint(status.ReasonRejected, "name one with --shard: "+strings.Join(names, ", "),
			fmt.Errorf("instance %s is that of a cluster, whose shards have their own snapshots", c.Instance())))
	}
	return shards, nil
}

// eachOf reports whether of, from catalogues, are the shards of the cluster whose
// instance c is. A single one is still one of several: the others were never saved.
func (s *shardChoice) eachOf(c *backup.Catalogue, of []*backup.Catalogue) bool {
	return (s.name == "" || s.name == allShards) && of[0] != c
}

// eachShard does something for every shard, under a heading, and says at last how the
// newest snapshots fit together.
func (s *shardChoice) eachShard(ctx context.Context, e *env, c *backup.Catalogue, shards []*backup.Catalogue, do func(*backup.Catalogue) error) error {
	set, setErr := c.FindCluster(ctx, "latest")
	var errs []error
	for i, x := range shards {
		if !s.json() {
			resting := ""
			if slices.ContainsFunc(set.Resting, func(r backup.ShardSnapshot) bool { return r.Catalogue.Instance() == x.Instance() }) {
				resting = "  (its slots belong to other shards by now: nothing is added, and what is there stays until it is deleted)"
			}
			fmt.Fprintf(e.stdout, "%sshard %s%s\n", map[bool]string{true: "\n"}[i > 0], backup.ShardOf(x.Instance()), resting)
		}
		if err := do(x); err != nil {
			errs = append(errs, fmt.Errorf("shard %s: %w", backup.ShardOf(x.Instance()), err))
		}
	}
	if !s.json() {
		if setErr != nil {
			fmt.Fprintf(e.stdout, "\nthe newest snapshots are no whole cluster: %v\n", setErr)
		} else {
			oldest, newest := set.Spread()
			fmt.Fprintf(e.stdout, "\nthe newest snapshots of %s make a whole cluster, taken within %s\n", plural(len(set.Shards), "shard"), newest.Sub(oldest).Round(time.Second))
		}
	}
	return errors.Join(errs...)
}

// clusterRestore says what this pod is in the cluster that is restored; nil: no
// cluster is.
func (l *loaded) clusterRestore(conf serverConf) (*backup.ClusterRestore, error) {
	if l.Restore.Shard == "" {
		return nil, nil //nolint:nilnil // as documented
	}
	peers, err := backup.ParseClusterPeers(l.Restore.ClusterPeers)
	if err != nil || len(peers) == 0 {
		return nil, settings.Problems{{Name: "restore.cluster-peers", Value: l.Restore.ClusterPeers, What: cmp.Or(errText(err), "is empty: restore.shard needs it"), Hint: "for example redis-{0..5}.redis-pods:6379"}}
	}
	main, err := redis.ParseAddress(l.Redis.Addr)
	tls := err == nil && main.TLS
	own, _, _ := strings.Cut(l.Pod.IP, ",") // status.podIPs: the first is the pod's own
	return &backup.ClusterRestore{
		Shard: l.Restore.Shard, Pod: l.Pod.Name, Peers: peers,
		Name:    cmp.Or(l.Restore.ClusterName, backup.ClusterName(l.Backup.Instance, peers)),
		Address: strings.TrimSpace(own), Wait: l.Restore.ClusterWait, PromotesEmpty: conf.promotesEmpty,
		Dial: func(p backup.ClusterPeer, ip string) backup.PeerConn {
			return l.dialPeer(backup.PeerAddress{Host: p.Host, Port: strconv.Itoa(p.Port), TLS: tls}, ip)
		},
	}, nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
