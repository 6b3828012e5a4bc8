package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
)

func backupPruneCommand() *command {
	var dry, asJSON bool
	return &command{
		name: "backup prune", summary: "Delete the snapshots that no rule of backup.retention keeps.",
		text: "The agent does the same after every snapshot, by its own rules. Those that it has from its command line are not known here:\n" +
			"repeat them, or what they keep is deleted; --dry-run shows what would be. Whatever the rules say, the newest snapshot stays,\n" +
			"the newest that holds keys, and the newest that passed its last verification. What the store keeps locked stays and is no failure.",
		flags:    "  --dry-run\n        Only say what would be deleted, and why each of the others stays. The store is not asked for its locks: of what it\n        would delete, what is locked would stay.\n  --json\n        The same as JSON.\n" + instanceFlag + shardsFlag,
		exits:    exitsCommon,
		sections: catalogueSections,
		run: shardsRun(func(fs *flag.FlagSet) {
			fs.BoolVar(&dry, "dry-run", false, "")
			fs.BoolVar(&asJSON, "json", false, "")
		}, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			if err := noArguments(l.rest); err != nil {
				return err
			}
			return prune(ctx, e, l, c, dry, asJSON)
		}),
	}
}

// retention are the rules of the settings.
func (l *loaded) retention() backup.Retention {
	r := l.Backup.Retention
	schedule, _ := backup.ParseSchedule(l.Backup.Schedule) // it was checked; none is UTC
	return backup.Retention{
		Last: r.KeepLast, Hourly: r.KeepHourly, Daily: r.KeepDaily, Weekly: r.KeepWeekly, Monthly: r.KeepMonthly, Yearly: r.KeepYearly,
		Zone: schedule.Zone(), MinAge: r.MinAge, MinCount: r.MinCount, ShrinkGuard: r.ShrinkGuard,
	}
}

// pruneJSON is what prune --json prints.
type pruneJSON struct {
	DryRun  bool         `json:"dry_run"`
	Rules   string       `json:"rules"`
	Deleted []string     `json:"deleted"` // oldest first
	Kept    []keptJSON   `json:"kept"`    // newest first
	Orphans []orphanJSON `json:"orphans"`
	Locked  int          `json:"locked"`
}

type keptJSON struct {
	ID    string    `json:"id"`
	Why   []string  `json:"why"`
	Until time.Time `json:"locked_until,omitzero"`
}

type orphanJSON struct {
	ID    string `json:"id"`
	Bytes int64  `json:"bytes"`
}

// prune applies the retention and says what went.
func prune(ctx context.Context, e *env, l *loaded, c *backup.Catalogue, dry, asJSON bool) error {
	rules := l.retention()
	p, err := c.Prune(ctx, rules, dry)
	if asJSON {
		out := pruneJSON{DryRun: dry, Rules: rules.String(), Deleted: p.Deleted, Kept: []keptJSON{}, Orphans: []orphanJSON{}, Locked: p.Locked}
		if out.Deleted == nil {
			out.Deleted = []string{}
		}
		for _, k := range p.Keeps {
			out.Kept = append(out.Kept, keptJSON{k.ID, k.Why, k.Until})
		}
		for _, o := range p.Orphans {
			out.Orphans = append(out.Orphans, orphanJSON{o.ID, o.Size})
		}
		if printErr := printJSON(e.stdout, out); err == nil {
			err = printErr
		}
		return err
	}
	verb := "deleted"
	if dry {
		verb = "would delete"
	}
	if dry && err == nil {
		t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
		for _, k := range p.Keeps {
			fmt.Fprintf(t, "keep\t%s\t%s\n", k.ID, strings.Join(k.Why, ", "))
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for _, id := range p.Deleted {
		fmt.Fprintf(e.stdout, "%s %s\n", verb, id)
	}
	if n := len(p.Orphans); n > 0 {
		var size int64
		for _, o := range p.Orphans {
			size += o.Size
		}
		fmt.Fprintf(e.stdout, "%s what %s left behind, %s\n", verb, plural(n, "abandoned upload"), human.Bytes(size))
	}
	for _, k := range p.Keeps {
		if !k.Until.IsZero() {
			fmt.Fprintf(e.stdout, "kept %s: locked by the store until %s\n", k.ID, k.Until.UTC().Format(time.RFC3339))
		}
	}
	if n := len(p.Ahead); n > 0 {
		fmt.Fprintf(e.stdout, "kept %s dated in the future, the first is %s: a clock was wrong, and restore takes it for the latest\n", plural(n, "snapshot"), p.Ahead[0])
	}
	if p.Spared != "" {
		fmt.Fprintf(e.stdout, "kept %s: no newer snapshot holds keys\n", p.Spared)
	}
	if p.Guarded != "" {
		fmt.Fprintf(e.stdout, "kept %s: no newer snapshot holds a tenth of its keys; if they were deleted on purpose: backup delete --force %s\n", p.Guarded, p.Guarded)
	}
	switch n := len(p.Keeps) + len(p.Deleted); {
	case err != nil:
	case n == 0:
		fmt.Fprintln(e.stdout, noSnapshots(ctx, c))
	default:
		if dry && len(p.Deleted)+len(p.Orphans) > 0 && !strings.HasPrefix(l.Backup.Store, "file:") {
			fmt.Fprintln(e.stdout, "what of this the store keeps locked would stay: its locks were not asked for")
		}
		fmt.Fprintf(e.stdout, "%d of %s %s by the rules of this command: %s\n", len(p.Deleted), plural(n, "snapshot"),
			map[bool]string{false: "deleted", true: "would be deleted"}[dry], rules)
	}
	return err
}
