package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/test/internal/rig"
)

// way is one way to do the work.
type way struct {
	name  string
	needs string // may be left out by that name
	ours  bool
	fetch bool // from the store, not to it
	do    func(ctx context.Context, s *s3) (cost, error)
}

const (
	wayBGSave       = "BGSAVE alone"
	wayAWS          = "BGSAVE, then aws s3 cp"
	wayRclone       = "BGSAVE, then rclone copyto"
	wayServer       = "redis-sidecar backup now --backup.rdb-compression=server"
	wayNow          = "redis-sidecar backup now"
	wayEncrypted    = "… encrypted"
	wayAgent        = "redis-sidecar run, scheduled"
	wayGetAWS       = "aws s3 cp of the plain RDB"
	wayGetRclone    = "rclone copyto of the plain RDB"
	wayVerify       = "redis-sidecar backup verify"
	wayRestore      = "redis-sidecar restore"
	wayRestoreCrypt = "… of an encrypted snapshot"
)

// ways returns all of them, in the order in which they take turns.
func (b *bench) ways() []way {
	all := []way{
		{name: wayBGSave, do: func(ctx context.Context, s *s3) (cost, error) { return s.bgsave(ctx) }},
		{name: wayAWS, needs: "aws", do: func(ctx context.Context, s *s3) (cost, error) {
			return s.saveThen(ctx, "aws", "--endpoint-url", s.endpoint, "s3", "cp", "--no-progress", s.dump(), "s3://"+bucket+"/aws/dump.rdb")
		}},
		{name: wayRclone, needs: "rclone", do: func(ctx context.Context, s *s3) (cost, error) {
			return s.saveThen(ctx, "rclone", "copyto", s.dump(), "b:"+bucket+"/rclone/dump.rdb")
		}},
		{name: wayServer, needs: "server", ours: true, do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, s.binary, "backup", "now", "--backup.instance=server", "--backup.rdb-compression=server")
		}},
		{name: wayNow, ours: true, do: func(ctx context.Context, s *s3) (cost, error) { return s.run(ctx, s.binary, "backup", "now") }},
		{name: wayEncrypted, needs: "encrypted", ours: true, do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, s.binary, "backup", "now", "--backup.instance=encrypted", "--backup.encryption.recipients-file="+s.recipients())
		}},
		{name: wayAgent, needs: "agent", ours: true, do: func(ctx context.Context, s *s3) (cost, error) { return s.scheduled(ctx) }},
		{name: wayGetAWS, fetch: true, needs: "aws", do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, "aws", "--endpoint-url", s.endpoint, "s3", "cp", "--no-progress", "s3://"+bucket+"/aws/dump.rdb", s.fetched())
		}},
		{name: wayGetRclone, fetch: true, needs: "rclone", do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, "rclone", "copyto", "b:"+bucket+"/rclone/dump.rdb", s.fetched())
		}},
		{name: wayVerify, fetch: true, ours: true, do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, s.binary, "backup", "verify", "latest")
		}},
		{name: wayRestore, fetch: true, ours: true, do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, s.binary, "restore", "--restore.dir="+s.target())
		}},
		{name: wayRestoreCrypt, fetch: true, needs: "encrypted", ours: true, do: func(ctx context.Context, s *s3) (cost, error) {
			return s.run(ctx, s.binary, "restore", "--restore.dir="+s.target(), "--backup.instance=encrypted", "--backup.encryption.identity-file="+s.identity())
		}},
	}
	return slices.DeleteFunc(all, func(w way) bool { return slices.Contains(b.skip, w.needs) })
}

func (b *bench) fetched() string    { return filepath.Join(b.Dir, "fetched.rdb") }
func (b *bench) target() string     { return filepath.Join(b.Dir, "target") }
func (b *bench) identity() string   { return filepath.Join(b.Dir, "identity.txt") }
func (b *bench) recipients() string { return filepath.Join(b.Dir, "recipients.txt") }

// saveThen is what a script does: BGSAVE, wait, copy.
func (s *s3) saveThen(ctx context.Context, program string, args ...string) (cost, error) {
	save, err := s.bgsave(ctx)
	if err != nil {
		return cost{}, err
	}
	st, err := os.Stat(s.dump())
	if err != nil {
		return cost{}, err
	}
	s.copied = st.Size()
	send, err := s.run(ctx, program, args...)
	return save.plus(send), err
}

// scheduled has the agent take a snapshot by its schedule, and returns what the
// manifest says of its time: from the trigger to the manifest.
func (s *s3) scheduled(ctx context.Context) (cost, error) {
	ports, err := rig.FreePorts(1)
	if err != nil {
		return cost{}, err
	}
	agent, err := s.Start("agent", append(s.environ(), "REDIS_SIDECAR_BACKUP_INSTANCE=agent"), s.binary,
		"run", "--web.listen-address=127.0.0.1:"+ports[0], "--backup.schedule=@every 1m")
	if err != nil {
		return cost{}, err
	}
	defer agent.Kill()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	old, _ := s.manifests(ctx)
	for {
		now, err := s.manifests(ctx)
		if err != nil {
			return cost{}, err
		}
		for id, m := range now {
			if _, ok := old[id]; ok {
				continue
			}
			peak, err := agent.Memory("VmHWM")
			if err != nil {
				return cost{}, err
			}
			cpu, err := agent.CPU()
			return cost{wall: time.Duration(m.Durations.Total * float64(time.Second)), cpu: cpu, peak: peak}, err
		}
		if err := rig.Wait(ctx, 500*time.Millisecond); err != nil {
			return cost{}, fmt.Errorf("no scheduled snapshot: %w\n%s", err, agent.Log())
		}
	}
}

// manifest is the part of a snapshot's manifest that matters here.
type manifest struct {
	ID     string `json:"id"`
	Object struct {
		Size int64 `json:"size"`
	} `json:"object"`
	Durations struct {
		Save  float64 `json:"save_seconds"`
		Total float64 `json:"total_seconds"`
	} `json:"durations"`
}

// manifests returns those of the agent, by id.
func (s *s3) manifests(ctx context.Context) (map[string]manifest, error) {
	c, err := s.run(ctx, s.binary, "backup", "list", "--json", "--backup.instance=agent", "--log.level=error")
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID       string   `json:"id"`
		Manifest manifest `json:"manifest"`
	}
	if err := json.Unmarshal([]byte(c.said), &list); err != nil {
		return nil, fmt.Errorf("backup list: %w", err)
	}
	out := map[string]manifest{}
	for _, e := range list {
		out[e.ID] = e.Manifest
	}
	return out, nil
}

// check compares what a way has made with what was to be made, so that nobody
// wins by leaving something out.
func (s *s3) check(w way) error {
	var file string
	switch w.name {
	case wayGetAWS, wayGetRclone:
		file = s.fetched()
	case wayRestore, wayRestoreCrypt:
		file = filepath.Join(s.target(), "dump.rdb")
	default:
		return nil
	}
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	want, err := s.size(w)
	if err != nil {
		return err
	}
	if diff := st.Size() - want; diff < -1000 || diff > 1000 { // times and keys that expire
		return fmt.Errorf("%s left %d bytes, the dump has %d", w.name, st.Size(), want)
	}
	return nil
}

// size returns how many bytes the RDB has that a way was about: a copy that of the
// last dump that was copied, everything else that of the last save.
func (s *s3) size(w way) (int64, error) {
	if w.name == wayGetAWS || w.name == wayGetRclone {
		return s.copied, nil
	}
	st, err := os.Stat(s.dump())
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// measure lets all ways take turns: those to the store, and then those from it.
func (s *s3) measure(ctx context.Context, out io.Writer) (map[string][]cost, error) {
	results := map[string][]cost{}
	for _, fetch := range []bool{false, true} {
		turns := slices.DeleteFunc(s.ways(), func(w way) bool { return w.fetch != fetch })
		if err := s.turns(ctx, out, turns, results); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (s *s3) turns(ctx context.Context, out io.Writer, ways []way, results map[string][]cost) error {
	for rep := range s.reps {
		for _, w := range ways {
			syscall.Sync() // what the one before has left to be written is not written in this one's time
			_ = os.Remove(s.fetched())
			if err := errors.Join(os.RemoveAll(s.target()), os.Mkdir(s.target(), 0o755)); err != nil {
				return err
			}
			if w.fetch {
				if err := s.warm(ctx); err != nil {
					return err
				}
			}
			c, err := w.do(ctx, s)
			if err == nil {
				err = s.check(w)
			}
			if err == nil {
				c.rdb, err = s.size(w)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			results[w.name] = append(results[w.name], c)
			fmt.Fprintf(out, "# %s %d/%d  %-32s %6.2f s  CPU %6.2f s  peak %4d MiB  load %s\n", s.kind, rep+1, s.reps, w.name, c.wall.Seconds(), c.cpu.Seconds(), c.peak>>20, loadAverage())
		}
	}
	return nil
}

// warm makes free memory, twice the size of the RDB, such that was in use a moment ago,
// as the page cache. A virtual machine gives free memory back to its host after two seconds
// (https://docs.kernel.org/mm/free_page_reporting.html) and gets it again at 0.5 GB/s, so
// that of two programs that write the same the one that comes later can take twice as
// long.
func (b *bench) warm(ctx context.Context) error {
	st, err := os.Stat(b.dump())
	if err != nil {
		return err
	}
	const giving = 3 * time.Second // what was freed before this is given back while none of it is wanted
	name := filepath.Join(b.Dir, "warm")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for left := 2 * st.Size(); left > 0 && err == nil; left -= int64(len(block)) {
		_, err = f.Write(block)
	}
	return errors.Join(err, f.Close(), rig.Wait(ctx, giving), os.Remove(name))
}

// makeKeys writes a key pair of age for the encrypted ways.
func (b *bench) makeKeys(ctx context.Context) error {
	s := &s3{bench: b}
	if _, err := s.run(ctx, "age-keygen", "-o", b.identity()); err != nil {
		return err
	}
	text, err := os.ReadFile(b.identity())
	if err != nil {
		return err
	}
	_, rest, ok := bytes.Cut(text, []byte("public key: "))
	key, _, _ := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return errors.New("age-keygen names no public key")
	}
	return os.WriteFile(b.recipients(), append(key, '\n'), 0o644)
}
