package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
)

func backupListCommand() *command {
	var asJSON bool
	var limit int
	return &command{
		name: "backup list", summary: "List the snapshots of the instance, newest first.",
		text: "RATIO is the size of the RDB divided by what it takes in the store.\n" +
			"VERIFIED is what verifications found, and how long ago: loaded, full or stored (how deep it went; a later one that did not go as\n" +
			"deep takes nothing back, and stands after it), DAMAGED, or - for a snapshot that was only read back after it was taken.\n" +
			"A manifest that cannot be read is DAMAGED, too; NEWER is one that a newer redis-sidecar has written.\n" +
			"TIME has no fraction of a second: as a time to restore it means the snapshot before. To restore this one, give its ID.\n" +
			"Below the table is the newest that is not known to be damaged, and the newest that was verified.",
		flags:    "  --json\n        Print manifests and records of verification as a JSON array.\n  --limit N\n        The newest N only. 0, the default, is all.\n" + instanceFlag + shardsFlag,
		exits:    exitsCommon + exitsDamaged,
		sections: catalogueSections,
		run: shardsRun(func(fs *flag.FlagSet) {
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
			broken := 0
			for _, x := range entries {
				if damaged(x.Err) || x.Verified != nil && !x.Verified.OK() {
					broken++
				}
			}
			switch {
			case asJSON:
				err = printJSON(e.stdout, entriesForJSON(entries))
			case len(entries) == 0:
				_, err = fmt.Fprintln(e.stdout, noSnapshots(ctx, c))
			default:
				err = printEntries(e.stdout, entries)
			}
			if err == nil && broken > 0 {
				return withCode(exitDamaged, fmt.Errorf("%d of %d snapshots are damaged", broken, len(entries)))
			}
			return err
		}),
	}
}

// jsonEntry is one line of backup list --json: a manifest, or what is wrong.
type jsonEntry struct {
	ID       string               `json:"id"`
	Manifest *backup.Manifest     `json:"manifest,omitempty"`
	Verified *backup.Verification `json:"verified,omitempty"`
	Error    string               `json:"error,omitempty"`
}

func entriesForJSON(entries []backup.Entry) []jsonEntry {
	out := make([]jsonEntry, len(entries))
	for i, x := range entries {
		out[i].ID = x.ID
		if x.Err != nil {
			out[i].Error = x.Err.Error()
		} else {
			out[i].Manifest, out[i].Verified = &x.Manifest, x.Verified
		}
	}
	return out
}

// noSnapshots says that there are none, where none are, and what there is in their
// place: the name may be mistaken.
func noSnapshots(ctx context.Context, c *backup.Catalogue) string {
	text := "no snapshots of " + c.String()
	if backup.ShardOf(c.Instance()) != "" {
		return text // of a cluster that is there, most likely
	}
	names, more, err := c.Instances(ctx)
	if err != nil || len(names) == 0 {
		return text // credentials for this instance alone are good
	}
	text += "; there are some of " + strings.Join(names, ", ")
	if more {
		text += ", and maybe of others"
	}
	return text
}

func printEntries(w io.Writer, entries []backup.Entry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTIME (UTC)\tAGE\tKEYS\tRDB\tSTORED\tRATIO\tREDIS\tPOD\tROLE\tSOURCE\tENCRYPTED\tVERIFIED")
	for _, x := range entries {
		age := shortAge(time.Since(x.Time))
		if x.Err != nil {
			what := "NEWER"
			if damaged(x.Err) {
				what = "DAMAGED"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s: %v\n", x.ID, x.Time.Format(time.DateTime), age, what, x.Err)
			continue
		}
		m := x.Manifest
		keys := fmt.Sprint(m.RDB.Keys)
		if !m.RDB.Walked {
			keys = "?"
		}
		encrypted := m.Object.Encryption
		if encrypted == backup.EncryptionNone {
			encrypted = "no"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Time.Format(time.DateTime), age, keys,
			human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size), float64(m.RDB.Size)/float64(m.Object.Size),
			m.Server.Version, m.Server.Pod, m.Server.Role, m.Source, encrypted, verifiedText(x.Verified))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	ahead := func(x backup.Entry) bool { return backup.Ahead(x.Time, time.Now()) }
	fmt.Fprintf(w, "newest good snapshot: %s\n", newestOf(entries, func(x backup.Entry) bool { return !ahead(x) }))
	_, err := fmt.Fprintf(w, "newest verified snapshot: %s\n", newestOf(entries, func(x backup.Entry) bool { return x.Verified != nil && !ahead(x) }))
	if i := slices.IndexFunc(entries, ahead); i >= 0 {
		_, err = fmt.Fprintf(w, "dated in the future: %s: a clock was wrong, and restore takes it for the latest\n", entries[i].ID)
	}
	return err
}

// newestOf names the first of entries that is not known to be damaged and that fits.
func newestOf(entries []backup.Entry, fits func(backup.Entry) bool) string {
	for _, x := range entries {
		if x.Err != nil || x.Verified != nil && !x.Verified.OK() || !fits(x) {
			continue
		}
		s := fmt.Sprintf("%s, %s old", x.ID, shortAge(time.Since(x.Time)))
		if x.Manifest.RDB.Walked && x.Manifest.RDB.Keys == 0 {
			s += ", EMPTY"
		}
		return s
	}
	return "NONE of these"
}

func verifiedText(v *backup.Verification) string {
	switch {
	case v == nil:
		return "-"
	case !v.OK():
		return "DAMAGED " + shortAge(time.Since(v.VerifiedAt)) + " ago"
	}
	text := string(v.Level) + " " + shortAge(time.Since(v.VerifiedAt)) + " ago"
	if v.Later != nil {
		text += ", " + string(v.Later.Level) + " " + shortAge(time.Since(v.Later.VerifiedAt)) + " ago"
	}
	return text
}

// shortAge writes a duration in its largest unit.
func shortAge(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + shortAge(-d) // of the future
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func backupShowCommand() *command {
	return &command{
		name: "backup show", args: "SNAPSHOT", summary: "Print a snapshot's manifest as JSON.",
		text:  "SNAPSHOT is " + snapshotArg + ".\nUnder \"verified\" it adds the record of the last verification, if there is one.",
		flags: instanceFlag + shardFlag, exits: exitsNotFound, sections: catalogueSections,
		run: catalogueRun(nil, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			what, err := oneArgument(l.rest, snapshotArg)
			if err != nil {
				return err
			}
			m, err := c.Find(ctx, what)
			if err != nil {
				return err
			}
			v, err := c.Verification(ctx, m.ID)
			if err != nil {
				return err
			}
			return printJSON(e.stdout, struct {
				backup.Manifest

				Verified *backup.Verification `json:"verified,omitempty"`
			}{m, v})
		}),
	}
}
