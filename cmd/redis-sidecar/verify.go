package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/scratch"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// verifyFlags are those of backup verify.
type verifyFlags struct {
	all     bool
	sample  int
	load    bool
	server  string
	timeout time.Duration
}

func backupVerifyCommand() *command {
	var f verifyFlags
	return &command{
		name: "backup verify", args: "SNAPSHOT…", summary: "Download snapshots and check every byte of them against their manifests.",
		text: "Checks the SHA-256 of the stored object, decrypts and decompresses it, checks size and CRC64 of the RDB, walks it to its\n" +
			"end and counts its keys. Of an encrypted snapshot, without backup.encryption.identity-file, only the stored object is checked.\n" +
			"SNAPSHOT is " + snapshotArg + ".\n" +
			"What it finds is recorded beside the snapshot (verified.json), unless the credentials may not write.",
		flags: "  --all\n        Every snapshot of the instance, newest first.\n" +
			"  --sample N\n        The newest, and the N that were not verified for the longest time.\n" +
			"  --load\n        Load each into a redis-server of its own, too, and compare the keys of every database. Takes the memory of the data, and\n" +
			"        disk for the RDB in TMPDIR. That server listens on a private unix socket only and is killed afterwards.\n" +
			"  --redis-server PATH\n        The server for --load. Default: backup.verify.load, else redis-server or valkey-server of PATH.\n" +
			"  --timeout DURATION\n        How long it may take in all. 0, the default, is as long as it makes progress.\n" + instanceFlag + shardFlag,
		exits: exitsNotFound + exitsDamaged, sections: catalogueSections,
		run: catalogueRun(f.define, func(ctx context.Context, e *env, l *loaded, c *backup.Catalogue) error {
			if f.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("not done within --timeout %s", f.timeout))
				defer cancel()
			}
			ids, err := f.choose(ctx, l, c)
			if err != nil {
				return err
			}
			return f.verify(ctx, e, l, c, ids)
		}),
	}
}

func (f *verifyFlags) define(fs *flag.FlagSet) {
	fs.BoolVar(&f.all, "all", false, "")
	fs.IntVar(&f.sample, "sample", -1, "")
	fs.BoolVar(&f.load, "load", false, "")
	fs.StringVar(&f.server, "redis-server", "", "")
	fs.DurationVar(&f.timeout, "timeout", 0, "")
}

// choose returns the ids to verify.
func (f *verifyFlags) choose(ctx context.Context, l *loaded, c *backup.Catalogue) ([]string, error) {
	switch {
	case f.all && f.sample >= 0, (f.all || f.sample >= 0) && len(l.rest) > 0:
		return nil, withCode(exitUsage, errors.New("give snapshots, or --all, or --sample"))
	case f.server != "" && !f.load:
		return nil, withCode(exitUsage, errors.New("--redis-server goes with --load"))
	case f.all:
		ids, err := c.IDs(ctx)
		if err == nil && len(ids) == 0 {
			err = fmt.Errorf("%s: %w", c, backup.ErrNoSnapshots)
		}
		return ids, err
	case f.sample >= 0:
		ids, err := c.Sample(ctx, f.sample)
		if err == nil && len(ids) == 0 {
			err = fmt.Errorf("%s: %w", c, backup.ErrNoSnapshots)
		}
		return ids, err
	case len(l.rest) == 0:
		return nil, withCode(exitUsage, errors.New("missing argument: "+snapshotArg))
	}
	var ids []string
	for _, what := range l.rest {
		m, err := c.Find(ctx, what)
		if _, notID := backup.IDTime(what); notID == nil && status.ReasonOf(err) == status.ReasonCorrupt {
			m.ID, err = what, nil // that is said when it is its turn
		}
		if err != nil {
			return nil, codeOf(err)
		}
		ids = append(ids, m.ID)
	}
	return ids, nil
}

// verify verifies them all, whatever it finds in each.
func (f *verifyFlags) verify(ctx context.Context, e *env, l *loaded, c *backup.Catalogue, ids []string) error {
	o := backup.VerifyOptions{Tool: l.tool(), Pod: l.Pod.Name, Log: l.log}
	if f.load {
		o.Load = l.loadServer(e, f.server)
	}
	broken, failed := 0, 0
	var last error
	for _, id := range ids {
		line := newProgressLine(e, l.log, "verify "+id)
		o.Progress = line.backupProgress
		m, v, err := c.VerifyAndRecord(ctx, id, o)
		line.done()
		switch {
		case damaged(err):
			broken++
			fmt.Fprintf(e.stdout, "%s  DAMAGED\n", id)
		case err == nil, errors.Is(err, backup.ErrNotRecorded):
			fmt.Fprintf(e.stdout, "%s  %d keys  %s RDB  %s stored  %s  %s\n", m.ID, m.RDB.Keys, human.Bytes(m.RDB.Size), human.Bytes(m.Object.Size),
				seconds(v.Duration), verdict(v))
			continue
		default:
			failed++
		}
		if ctx.Err() != nil || len(ids) == 1 {
			return codeOf(err)
		}
		fmt.Fprintf(e.stderr, "redis-sidecar: %v%s\n", err, reasonNote(err))
		last = err
	}
	switch {
	case broken > 0:
		return withCode(exitDamaged, fmt.Errorf("%d of %d snapshots are damaged", broken, len(ids)))
	case failed > 0:
		return status.WithHint(status.ReasonOf(last), status.HintOf(last), fmt.Errorf("%d of %d snapshots could not be verified", failed, len(ids)))
	}
	return nil
}

// damaged tells whether an error speaks of damage. What a newer program has written
// is none.
func damaged(err error) bool {
	return status.ReasonOf(err) == status.ReasonCorrupt && !errors.Is(err, backup.ErrNewerFormat)
}

// codeOf gives damage its exit code.
func codeOf(err error) error {
	if damaged(err) {
		return withCode(exitDamaged, err)
	}
	return err
}

func verdict(v backup.Verification) string {
	switch v.Level {
	case backup.LevelStored:
		return "stored bytes intact, not decrypted: backup.encryption.identity-file is not set"
	case backup.LevelLoaded:
		return "intact, loaded by " + v.Server
	}
	return "intact"
}

// verifyPlan is what the agent verifies.
func (l *loaded) verifyPlan(e *env) backup.VerifyPlan {
	schedule, _ := backup.ParseSchedule(l.Backup.Verify.Schedule) // it was checked; empty is none
	plan := backup.VerifyPlan{Schedule: schedule, Sample: l.Backup.Verify.Sample, IdentityFile: l.Backup.Encryption.IdentityFile}
	if l.Backup.Verify.Load != "" {
		plan.Load = l.loadServer(e, "")
	}
	return plan
}

// tool names this program in manifests and records.
func (l *loaded) tool() string { return "redis-sidecar " + buildVersion().version }

// loadServer is the scratch server of verifications: the program that is given,
// else that of the settings, else the one in PATH.
func (l *loaded) loadServer(e *env, program string) backup.LoadServer {
	if program == "" {
		program = l.Backup.Verify.Load
	}
	return scratchServer{scratch.Server{Program: program, Environ: e.environ, Connect: func(socket string) scratch.Client {
		return redis.New(redis.Options{Network: "unix", Addr: socket})
	}}}
}

// scratchServer is a scratch.Server in the words of package backup.
type scratchServer struct{ scratch.Server }

// Load implements backup.LoadServer.
func (s scratchServer) Load(ctx context.Context, dir string, databases int, progress func(int64)) (string, []backup.Database, error) {
	res, err := s.Server.Load(ctx, dir, databases, progress)
	counts := make([]backup.Database, len(res.Databases))
	for i, db := range res.Databases {
		counts[i] = backup.Database(db)
	}
	return res.Version, counts, err
}
