package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

var backupSections = []string{"backup", "redis", "pod", "log"}
var catalogueSections = []string{"backup", "pod", "log"}

const (
	exitsNotFound = exitsCommon + "  3  there is no such snapshot\n"
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

// catalogueRun wraps what the catalogue commands have in common.
func catalogueRun(extra func(*flag.FlagSet), do func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error) func(context.Context, *env, []string) error {
	return func(ctx context.Context, e *env, args []string) error {
		l, err := load(e, args, extra)
		if err != nil {
			return err
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
		text: "Runs beside redis-server, with its data directory mounted: it needs no running agent. Old snapshots beyond\n" +
			"backup.retention.keep-last are deleted afterwards, as after a scheduled one.",
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
		Instance: l.Backup.Instance, Pod: l.Pod.Name, Tool: "redis-sidecar " + buildVersion().version,
		Role: backup.Role(l.Backup.Role), DataDir: l.Backup.DataDir, Source: l.Backup.Source, MemoryLimit: int64(l.Backup.MemoryLimit), Log: l.log,
		Encryption: backup.Encryption{Recipients: l.Backup.Encryption.Recipients, RecipientsFile: l.Backup.Encryption.RecipientsFile},
	}
}

func backupListCommand() *command {
	var asJSON bool
	var limit int
	return &command{
		name: "backup list", summary: "List the snapshots of the instance, newest first.",
		flags:    "  --json\n        Print manifests as a JSON array.\n  --limit N\n        The newest N only. 0, the default, is all.\n",
		exits:    exitsCommon,
		sections: catalogueSections,
		run: catalogueRun(func(fs *flag.FlagSet) {
			fs.BoolVar(&asJSON, "json", false, "")
			fs.IntVar(&limit, "limit", 0, "")
		}, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			if err := noArguments(l.rest); err != nil {
				return err
			}
			entries, err := c.List(ctx, max(limit, 0))
			if err != nil {
				return err
			}
			damaged := 0
			for _, x := range entries {
				if x.Err != nil {
					damaged++
				}
			}
			if asJSON {
				err = printJSON(e.stdout, entriesForJSON(entries))
			} else {
				err = printEntries(e.stdout, entries, c.String())
			}
			if err == nil && damaged > 0 {
				return fmt.Errorf("%d of %d snapshots have a damaged manifest", damaged, len(entries))
			}
			return err
		}),
	}
}

// jsonEntry is one line of backup list --json: a manifest, or what is wrong.
type jsonEntry struct {
	ID       string           `json:"id"`
	Manifest *backup.Manifest `json:"manifest,omitempty"`
	Error    string           `json:"error,omitempty"`
}

func entriesForJSON(entries []backup.Entry) []jsonEntry {
	out := make([]jsonEntry, len(entries))
	for i, x := range entries {
		out[i].ID = x.ID
		if x.Err != nil {
			out[i].Error = x.Err.Error()
		} else {
			out[i].Manifest = &x.Manifest
		}
	}
	return out
}

func printEntries(w io.Writer, entries []backup.Entry, where string) error {
	if len(entries) == 0 {
		_, err := fmt.Fprintf(w, "no snapshots in %s\n", where)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTIME (UTC)\tAGE\tKEYS\tRDB\tSTORED\tREDIS\tPOD\tROLE")
	for _, x := range entries {
		age := time.Since(x.Time).Round(time.Second)
		if x.Err != nil {
			fmt.Fprintf(t, "%s\t%s\t%s\tdamaged: %v\n", x.ID, x.Time.Format(time.DateTime), age, x.Err)
			continue
		}
		m := x.Manifest
		keys := fmt.Sprint(m.RDB.Keys)
		if !m.RDB.Walked {
			keys = "?"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Time.Format(time.DateTime), age, keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size),
			m.Server.Version, m.Server.Pod, m.Server.Role)
	}
	return t.Flush()
}

func backupShowCommand() *command {
	return &command{
		name: "backup show", args: "SNAPSHOT", summary: "Print a snapshot's manifest as JSON.",
		text:  "SNAPSHOT is " + snapshotArg + ".",
		exits: exitsNotFound, sections: catalogueSections,
		run: catalogueRun(nil, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			what, err := oneArgument(l.rest, snapshotArg)
			if err != nil {
				return err
			}
			m, err := c.Find(ctx, what)
			if err != nil {
				return err
			}
			return printJSON(e.stdout, m)
		}),
	}
}

func backupVerifyCommand() *command {
	return &command{
		name: "backup verify", args: "SNAPSHOT", summary: "Download a snapshot and check every byte of it against its manifest.",
		text: "Checks the SHA-256 of the stored object, decrypts and decompresses it, checks SHA-256 and CRC64 of the RDB, walks it to its\n" +
			"end and counts its keys. Of an encrypted snapshot, without backup.encryption.identity-file, only the stored object is checked.\n" +
			"SNAPSHOT is " + snapshotArg + ".",
		exits: exitsNotFound, sections: catalogueSections,
		run: catalogueRun(nil, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			what, err := oneArgument(l.rest, snapshotArg)
			if err != nil {
				return err
			}
			m, err := c.Find(ctx, what)
			if err != nil {
				return err
			}
			line := newProgressLine(e, l.log, "verify")
			start := time.Now()
			m, err = c.Verify(ctx, m.ID, line.backupProgress)
			line.done()
			if err != nil {
				return err
			}
			verdict := "intact"
			if c.Level(m) == backup.LevelStored {
				verdict = "stored bytes intact, not decrypted: backup.encryption.identity-file is not set"
			}
			_, err = fmt.Fprintf(e.stdout, "%s  %d keys  %s RDB  %s stored  %s  %s\n", m.ID, m.RDB.Keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size),
				seconds(time.Since(start).Seconds()), verdict)
			return err
		}),
	}
}

func backupDeleteCommand() *command {
	return &command{
		name: "backup delete", args: "ID", summary: "Delete one snapshot, named by its id.",
		exits: exitsNotFound, sections: catalogueSections,
		run: catalogueRun(nil, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			id, err := oneArgument(l.rest, "the id of a snapshot (redis-sidecar backup list shows them)")
			if err != nil {
				return err
			}
			if _, err := backup.IDTime(id); err != nil {
				return withCode(exitUsage, fmt.Errorf("%q is not the id of a snapshot: delete takes ids only", id))
			}
			if err := exists(ctx, c, id); err != nil {
				return err
			}
			if err := c.Delete(ctx, id); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "deleted %s\n", id)
			return err
		}),
	}
}

// exists says ErrNotFound when there is no snapshot of that id. A damaged
// manifest is there: it can be deleted.
func exists(ctx context.Context, c *backup.Catalogue, id string) error {
	_, err := c.Get(ctx, id)
	if errors.Is(err, backup.ErrNotFound) {
		return err
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
