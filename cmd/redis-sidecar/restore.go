package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/config"
)

func restoreCommand() *command {
	var dry bool
	return &command{
		name: "restore", summary: "Put a snapshot into an empty data directory, before redis-server starts: the init container.",
		text: "A directory that holds data is never touched: with restore.if-data=skip that is success, with error it is exit code 4.\n" +
			"The snapshot is downloaded beside its place and verified; then it is put in place so that redis-server loads it with\n" +
			"appendonly yes as well as no. Killed at any moment, it leaves a directory that the next run completes.",
		flags:    "  --dry-run\n        Only say what would be restored.\n",
		exits:    exitsCommon + "  3  there is no such snapshot, or none at all and restore.if-none=error\n  4  the directory holds data and restore.if-data=error\n",
		sections: []string{"restore", "backup", "pod", "log"},
		run: func(ctx context.Context, e *env, args []string) error {
			l, err := load(e, args, func(fs *flag.FlagSet) { fs.BoolVar(&dry, "dry-run", false, "") })
			if err != nil {
				return err
			}
			if err := noArguments(l.rest); err != nil {
				return err
			}
			c, err := l.openCatalogue(ctx, e)
			if err != nil {
				return err
			}
			names, err := l.dataNames()
			if err != nil {
				return err
			}
			line := newProgressLine(e, l.log, "restore")
			res, err := backup.Restore(ctx, backup.RestoreOptions{
				From: l.Restore.From, Dir: l.Restore.Dir, Names: names,
				IfData: backup.IfData(l.Restore.IfData), IfNone: backup.IfNone(l.Restore.IfNone),
				RedisVersion: l.Restore.RedisVersion, DryRun: dry,
			}, c, l.log, func(p backup.RestoreProgress) { line.show(string(p.Phase), p.String()) })
			line.done()
			if err != nil {
				return snapshotError(err)
			}
			_, err = fmt.Fprintln(e.stdout, restoreSummary(res))
			return err
		},
	}
}

func restoreSummary(r backup.RestoreResult) string {
	if r.Skipped != "" {
		return "nothing restored: " + r.Skipped
	}
	verb := "restored"
	if r.DryRun {
		verb = "would restore"
	}
	return fmt.Sprintf("%s %s  %d keys (%d with a time to live)  %s RDB  snapshot is %s old  %s  as %s",
		verb, r.ID, r.Keys, r.Expiring, size(r.Bytes), time.Since(r.CreatedAt).Round(time.Second), seconds(r.Elapsed.Seconds()), r.Layout)
}

// dataNames takes the names of the server's files from its redis.conf.
func (l *loaded) dataNames() (backup.DataNames, error) {
	var names backup.DataNames
	if l.Restore.RedisConf == "" {
		return names, nil
	}
	tree, problems := config.Load(l.Restore.RedisConf)
	if len(problems) > 0 {
		return names, fmt.Errorf("restore.redis-conf: %w", errors.New(problems[0].String()))
	}
	for _, d := range tree.Directives { // the last one wins
		if len(d.Args) != 1 {
			continue
		}
		switch d.Name {
		case "dbfilename":
			names.DBFilename = d.Args[0]
		case "appenddirname":
			names.AppendDirname = d.Args[0]
		case "appendfilename":
			names.AppendFilename = d.Args[0]
		}
	}
	return names, nil
}
