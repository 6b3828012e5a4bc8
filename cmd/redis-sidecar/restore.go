package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/config"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/settings"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func restoreCommand() *command {
	var dry bool
	return &command{
		name: "restore", summary: "Put a snapshot into an empty data directory, before redis-server starts: the init container.",
		text: "A directory that holds data is never touched: with restore.if-data=skip that is success, with error it is exit code 4.\n" +
			"The snapshot is downloaded beside its place and verified; then it is put in place so that redis-server loads it with\n" +
			"appendonly yes as well as no. Killed at any moment, it leaves a directory that the next run completes.",
		flags:    "  --dry-run\n        Only say what would be restored.\n",
		exits:    exitsCommon + "  3  there is no such snapshot, or none at all and restore.if-none=error\n  4  the directory holds data and restore.if-data=error, or data under other names than the server's\n",
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
		verb, r.ID, r.Keys, r.Expiring, human.Bytes(r.Bytes), time.Since(r.CreatedAt).Round(time.Second), seconds(r.Elapsed.Seconds()), r.Layout)
}

// dataNames takes the names of the server's files from its redis.conf.
func (l *loaded) dataNames() (backup.DataNames, error) {
	var names backup.DataNames
	if l.Restore.RedisConf == "" {
		return names, nil
	}
	// Not a check of every command: the agent may have this setting from an
	// environment it shares with the init container, and not the file.
	if _, err := os.Stat(l.Restore.RedisConf); err != nil {
		return names, settings.Problems{{Name: "restore.redis-conf", Value: l.Restore.RedisConf, What: "cannot be read: " + errors.Unwrap(err).Error(), Hint: "is it mounted here, and readable for this user?"}}
	}
	tree, problems := config.Load(l.Restore.RedisConf)
	if len(problems) > 0 {
		p := problems[0]
		todo := p.Hint
		p.Hint = ""
		return names, status.WithHint(status.ReasonOf(problems.Err()), todo, fmt.Errorf("restore.redis-conf: %s", p))
	}
	dir := ""
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
		case "dir":
			dir = d.Args[0]
		}
	}
	if filepath.IsAbs(dir) && filepath.Clean(dir) != filepath.Clean(l.Restore.Dir) {
		l.log.Warn("redis.conf names another data directory: a server ignores what is restored elsewhere, and starts empty",
			"restore_dir", l.Restore.Dir, "dir", dir, "hint", "make them the same, unless the volume is mounted at another path here")
	}
	return names, nil
}
