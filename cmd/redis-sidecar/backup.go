package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
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
	return func(ctx context.Context, e *env, args []string) error {
		var instance string
		l, err := load(e, args, func(fs *flag.FlagSet) {
			fs.StringVar(&instance, "instance", "", "")
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
		return snapshotError(do(ctx, e, l, c))
	}
}

func backupNowCommand() *command {
	return &command{
		name: "backup now", summary: "Take one snapshot now, and wait until it is verified and stored.",
		text: "Runs beside redis-server, with its data directory mounted: it needs no running agent. Snapshots that no rule of\n" +
			"backup.retention keeps are deleted afterwards, as after a scheduled one.",
		exits:    exitsCommon + "  5  not done: this server has not the role of backup.role\n",
		sections: backupSections,
		run: func(ctx context.Context, e *env, args []string) error {
			l, err := load(e, args, nil)
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
			line := newProgressLine(e, l.log, "backup")
			m, err := snap.Snapshot(ctx, line.backupProgress)
			line.done()
			if err := snap.Mend(ctx); err != nil {
				l.log.Error("after the snapshot", "error", err, "hint", status.HintOf(err))
			}
			if err != nil {
				return snapshotError(err)
			}
			fmt.Fprintf(e.stdout, "%s  %d keys  %s RDB  %s stored  %s  verified\n", m.ID, m.RDB.Keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size), seconds(m.Durations.Total))
			return prune(ctx, e, l, snap.Catalogue(), false, false)
		},
	}
}

// snapshotOptions are those of the agent and of backup now.
func (l *loaded) snapshotOptions() backup.SnapshotOptions {
	return backup.SnapshotOptions{
		Instance: l.Backup.Instance, Pod: l.Pod.Name, Tool: l.tool(),
		Role: backup.Role(l.Backup.Role), DataDir: l.Backup.DataDir, Source: l.Backup.Source, MemoryLimit: int64(l.Backup.MemoryLimit), RemoveLeftovers: l.Backup.RemoveLeftovers, Log: l.log,
		Encryption: backup.Encryption{Recipients: l.Backup.Encryption.Recipients, RecipientsFile: l.Backup.Encryption.RecipientsFile},
	}
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
