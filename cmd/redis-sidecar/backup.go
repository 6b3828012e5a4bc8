package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

var backupSections = []string{"backup", "redis", "pod", "log"}
var catalogueSections = []string{"backup", "pod", "log"}

const (
	exitsNotFound = exitsCommon + "  3  there is no such snapshot\n"
	exitsDamaged  = "  6  a snapshot is damaged\n"
	snapshotArg   = "latest, an id, or a time such as 2026-11-23T06:00:00Z (redis-sidecar backup list shows them)"
)

// snapshotError gives the errors about snapshots their exit codes, and a hint to
// those without.
func snapshotError(err error) error {
	switch {
	case errors.Is(err, backup.ErrNotFound), errors.Is(err, backup.ErrNoSnapshots):
		if status.HintOf(err) == "" {
			err = status.WithHint(status.ReasonStoreMissing, "redis-sidecar backup list shows what there is; check backup.store and backup.instance", err)
		}
		return withCode(exitNotFound, err)
	case errors.Is(err, backup.ErrHasData), errors.Is(err, backup.ErrPeers):
		return withCode(exitHasData, err)
	case errors.Is(err, backup.ErrStandby):
		return withCode(exitStandby, status.WithHint(status.ReasonOf(err), "run it beside that server, or set backup.role", err))
	}
	return err
}

// instanceFlag is the line of a flag that all commands about the catalogue have.
const instanceFlag = "  --instance NAME\n        The same as --backup.instance.\n"

// catalogueRun wraps what the catalogue commands have in common.
func catalogueRun(extra func(*flag.FlagSet), do func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error) func(context.Context, *env, []string) error {
	return catalogueRunOf(shardChoice{}, extra, do)
}

// shardsRun is catalogueRun for what can be done for every shard of a cluster.
func shardsRun(extra func(*flag.FlagSet), do func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error) func(context.Context, *env, []string) error {
	return catalogueRunOf(shardChoice{each: true}, extra, do)
}

func catalogueRunOf(shard shardChoice, extra func(*flag.FlagSet), do func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error) func(context.Context, *env, []string) error {
	return func(ctx context.Context, e *env, args []string) error {
		var instance string
		l, err := load(e, args, func(fs *flag.FlagSet) {
			fs.StringVar(&instance, "instance", "", "")
			shard.add(fs)
			if extra != nil {
				extra(fs)
			}
		})
		if err != nil {
			return err
		}
		if instance != "" {
			if err := backup.ValidInstance(instance); err != nil {
				return withCode(exitUsage, err)
			}
			l.Backup.Instance = instance
		}
		c, err := l.openCatalogue(ctx, e)
		if err != nil {
			return err
		}
		of, err := shard.catalogues(ctx, c)
		if err != nil {
			return snapshotError(err)
		}
		if !shard.eachOf(c, of) {
			return snapshotError(do(ctx, e, l, of[0]))
		}
		return snapshotError(shard.eachShard(ctx, e, c, of, func(c *backup.Catalogue) error { return do(ctx, e, l, c) }))
	}
}

func backupNowCommand() *command {
	var wait, force, prune, unencrypted bool
	return &command{
		name: "backup now", summary: "Take one snapshot now, and wait until it is verified and stored.",
		text: "Runs beside redis-server, with its data directory mounted: it needs no running agent. While another pod or the agent\n" +
			"takes one, it does nothing and says who. No snapshot is deleted unless --prune is given: the rules of an agent that\n" +
			"has them from its command line are not known here.",
		flags: "  --wait\n        Wait until the one that is being taken is over, then take this one.\n" +
			"  --force\n        Do not ask who else takes one. Two at the same time are both whole.\n" +
			"  --prune\n        Afterwards delete the snapshots that no rule of backup.retention, as set for this command, keeps.\n" +
			"  --unencrypted\n        Store it unencrypted although the newest snapshot is encrypted. Without this flag that is refused, because the\n" +
			"        setting is then most likely on the agent's command line only.\n",
		exits:    exitsCommon + "  5  not done: this server has not the role of backup.role\n  8  not done: another one is being taken\n",
		sections: backupSections,
		run: func(ctx context.Context, e *env, args []string) error {
			l, err := load(e, args, func(fs *flag.FlagSet) {
				fs.BoolVar(&wait, "wait", false, "")
				fs.BoolVar(&force, "force", false, "")
				fs.BoolVar(&prune, "prune", false, "")
				fs.BoolVar(&unencrypted, "unencrypted", false, "")
			})
			if err != nil {
				return err
			}
			if err := noArguments(l.rest); err != nil {
				return err
			}
			if err := l.errNoServer(); err != nil {
				return err
			}
			st, err := l.openStore(ctx, e)
			if err != nil {
				return err
			}
			client := l.clientNamed("redis-sidecar:backup")
			defer client.Close()
			snap, err := backup.NewSnapshotter(l.snapshotOptions(), client, st)
			if err != nil {
				return err
			}
			if !unencrypted {
				if err := snap.CheckKept(ctx); err != nil {
					return err
				}
			}
			if force {
				return backupNow(ctx, e, l, snap, prune)
			}
			c, err := snap.Locate(ctx)
			if err != nil {
				return err
			}
			return l.underLease(ctx, c, wait, func(ctx context.Context) error { return backupNow(ctx, e, l, snap, prune) })
		},
	}
}

// backupNow takes a snapshot, and deletes old ones if that is wanted.
func backupNow(ctx context.Context, e *env, l *loaded, snap *backup.Snapshotter, pruning bool) error {
	line := newProgressLine(e, l.log, "backup")
	m, err := snap.Snapshot(ctx, line.backupProgress)
	line.done()
	// Mend has logged it if the server refuses writes. That it does not answer is no news after a failure.
	if mend := snap.Mend(ctx); mend != nil && err == nil && ctx.Err() == nil && status.ReasonOf(mend) != status.ReasonMisconf {
		l.log.Warn("the snapshot is stored, but it is not known whether the server takes writes", "error", mend, "hint", status.HintOf(mend))
	}
	if err != nil {
		return snapshotError(l.withAddress(err))
	}
	fmt.Fprintf(e.stdout, "%s  %d keys  %s RDB  %s stored  %s  verified\n", m.ID, m.RDB.Keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size), seconds(m.Durations.Total))
	if !pruning {
		return nil
	}
	return prune(ctx, e, l, snap.Catalogue(), false, false)
}

// withAddress names the server of errors that are about reaching it: the agent has
// said at its start which one it is, a command has not.
func (l *loaded) withAddress(err error) error {
	switch status.ReasonOf(err) {
	case status.ReasonUnreachable, status.ReasonTimeout, status.ReasonTLS, status.ReasonAuth, status.ReasonProtocol:
		return fmt.Errorf("%s: %w", settings.RedactURL(l.Redis.Addr), err)
	}
	return err
}

// underLease takes the lease, so that one snapshot is taken at a time. A lease that
// has run out by the clock is waited for: its holder was most likely killed, and that
// is known for sure when it was not renewed for its TTL.
func (l *loaded) underLease(ctx context.Context, c *backup.Catalogue, wait bool, do func(ctx context.Context) error) error {
	const interval = time.Second
	lease := c.Lease(backup.LeaseOptions{Pod: l.Pod.Name, TTL: l.Backup.LeaseTTL, Log: l.log})
	for said := false; ; said = true {
		err := lease.Do(ctx, "backup now", do)
		held, ok := errors.AsType[*backup.HeldError](err)
		if !ok {
			return err
		}
		if held.Fresh && !wait {
			return withCode(exitBusy, status.WithHint(status.ReasonLease,
				fmt.Sprintf("--wait waits for it. A holder that was killed is known as such %s after its last renewal; --force takes a snapshot all the same", l.Backup.LeaseTTL), err))
		}
		if !said {
			l.log.Info("waiting for the backup lease", "why", held.Error())
		}
		timer := time.NewTimer(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for the backup lease: %w", err)
		}
	}
}

// cpus is how many cores a snapshot may use. With a second one it follows a save
// of the server that does not wait for it; a third finds nothing to do.
func (l *loaded) cpus() int {
	const enough = 2
	if l.Backup.CPUs > 0 {
		return min(l.Backup.CPUs, l.cores)
	}
	return min(enough, l.cores)
}

// snapshotOptions are those of the agent and of backup now.
func (l *loaded) snapshotOptions() backup.SnapshotOptions {
	return backup.SnapshotOptions{
		Instance: l.Backup.Instance, Shard: l.Backup.Shard, Pod: l.Pod.Name, Tool: l.tool(),
		Role: backup.Role(l.Backup.Role), MaxLag: l.Backup.MaxLag, DataDir: l.Backup.DataDir, Source: l.Backup.Source, RDBCompression: l.Backup.RDBCompression, MemoryLimit: int64(l.Backup.MemoryLimit), RemoveLeftovers: l.Backup.RemoveLeftovers, Log: l.log,
		RateLimit: int64(l.Backup.RateLimit), CPUs: l.cpus(),
		Encryption: backup.Encryption{Recipients: l.Backup.Encryption.Recipients, RecipientsFile: l.Backup.Encryption.RecipientsFile},
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
