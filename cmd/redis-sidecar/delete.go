package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func backupDeleteCommand() *command {
	var force bool
	return &command{
		name: "backup delete", args: "ID…", summary: "Delete snapshots, named by their ids.",
		text: "A snapshot that the retention always keeps is only deleted with --force: the newest that holds keys, the newest that passed\n" +
			"its last verification, and one since which no other held half as many keys. Unless all ids are there and may be deleted,\n" +
			"nothing is.",
		flags: "  --force\n        Delete also the last good one.\n" + instanceFlag + shardFlag,
		exits: exitsNotFound + "  7  not done: one of them is the last good one, and --force was not given\n", sections: catalogueSections,
		run: catalogueRun(func(fs *flag.FlagSet) { fs.BoolVar(&force, "force", false, "") },
			func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
				ids := slices.Compact(slices.Sorted(slices.Values(l.rest)))
				if len(ids) == 0 {
					return withCode(exitUsage, errors.New("missing argument: the ids of snapshots (redis-sidecar backup list shows them)"))
				}
				for _, id := range ids {
					if _, err := backup.IDTime(id); err != nil {
						return withCode(exitUsage, fmt.Errorf("%q is not the id of a snapshot: delete takes ids only", id))
					}
				}
				if err := deletable(ctx, l, c, ids, force); err != nil {
					return err
				}
				var errs []error
				for _, id := range ids { // the oldest first
					if err := c.Delete(ctx, id); err != nil {
						errs = append(errs, err)
						continue
					}
					fmt.Fprintf(e.stdout, "deleted %s\n", id)
				}
				return errors.Join(errs...)
			}),
	}
}

// deletable refuses what is not there, and without force what is protected.
func deletable(ctx context.Context, l *loaded, c *backup.Catalogue, ids []string, force bool) error {
	have, err := c.IDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.Contains(have, id) {
			return fmt.Errorf("snapshot %s: %w", id, backup.ErrNotFound)
		}
	}
	if force {
		return nil
	}
	protected, err := c.Protected(ctx, l.retention())
	if err != nil {
		return err
	}
	for _, k := range protected {
		if slices.Contains(ids, k.ID) {
			return withCode(exitLastGood, status.WithHint(status.ReasonRetention, "take another snapshot first, or say --force",
				fmt.Errorf("snapshot %s is not deleted: %s", k.ID, k.Why[0])))
		}
	}
	return nil
}
