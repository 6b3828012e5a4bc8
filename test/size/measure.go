package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/redis-sidecar/redis-sidecar/test/internal/rig"
)

const scrapes = 1000

// measure starts everything and collects the figures.
func measure(ctx context.Context, binary string, rdb int64, out io.Writer) (figures []figure, err error) {
	step := func(format string, args ...any) { fmt.Fprintf(out, "# "+format+"\n", args...) }
	st, err := os.Stat(binary)
	if err != nil {
		return nil, fmt.Errorf("%w: make build", err)
	}
	figures = append(figures, figure{"binary", st.Size(), 20 * mb, mb, "static, stripped"})

	s, err := rig.Start(ctx, rig.Options{Binary: binary, Config: "rdbcompression no\nmaxmemory 8gb\n", Schedule: "@every 1m"})
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	if err := s.Fill(ctx, 10*mib); err != nil {
		return nil, err
	}
	agent, err := s.StartAgent(ctx)
	if err != nil {
		return nil, err
	}

	step("idle for 20 s: all jobs on, 10 MiB of data")
	if err := rig.Wait(ctx, 20*time.Second); err != nil {
		return nil, err
	}
	rss, err := agent.Memory("VmRSS")
	if err != nil {
		return nil, err
	}
	figures = append(figures, figure{"resident, idle", rss, 20 * mib, mib, "announce, config, exporter, backup schedule, probes"})

	step("%d scrapes", scrapes)
	start := time.Now()
	size, err := scrape(ctx, s.AgentURL, scrapes)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d bytes of gzip and %.1f ms each", size, time.Since(start).Seconds()*1000/scrapes)
	if rss, err = agent.Memory("VmRSS"); err != nil {
		return nil, err
	}
	figures = append(figures, figure{fmt.Sprintf("resident, after %d scrapes", scrapes), rss, 20 * mib, mib, note})

	step("writing %d MiB of data that does not compress", rdb/mib)
	if err := s.Fill(ctx, rdb); err != nil {
		return nil, err
	}
	step("waiting for the scheduled backup")
	if err := agent.ResetPeak(); err != nil {
		return nil, err
	}
	made, err := waitSnapshot(ctx, s, agent, rdb)
	if err != nil {
		return nil, err
	}
	peak, err := agent.Memory("VmHWM")
	if err != nil {
		return nil, err
	}
	note = fmt.Sprintf("RDB of %.0f MiB, snapshot took %.1f s", float64(made.RDB.Size)/mib, made.Durations.Total)
	figures = append(figures, figure{"peak of the agent, backing up", peak, 64 * mib, mib, note})

	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(s.Dir, "identity.txt")
	if err := os.WriteFile(keyFile, []byte(identity.String()+"\n"), 0o600); err != nil {
		return nil, err
	}
	for _, way := range []struct {
		name            string
		backup, restore []string
	}{
		{"", nil, nil},
		{", encrypted", []string{"--backup.instance=encrypted", "--backup.encryption.recipients=" + identity.Recipient().String()},
			[]string{"--backup.instance=encrypted", "--backup.encryption.identity-file=" + keyFile}},
	} {
		step("backup now" + way.name)
		took, peak, err := s.Command(ctx, append([]string{"backup", "now"}, way.backup...)...)
		if err != nil {
			return nil, err
		}
		figures = append(figures, figure{"peak of backup now" + way.name, peak, 64 * mib, mib, fmt.Sprintf("%.1f s", took.Seconds())})

		step("restore" + way.name)
		if took, peak, err = restore(ctx, s, rdb, way.restore); err != nil {
			return nil, err
		}
		figures = append(figures, figure{"peak of restore" + way.name, peak, 64 * mib, mib, fmt.Sprintf("%.1f s", took.Seconds())})
	}
	return figures, nil
}

// restore restores into a directory of its own, and removes it.
func restore(ctx context.Context, s *rig.Servers, rdb int64, args []string) (took time.Duration, peak int64, err error) {
	dir, err := os.MkdirTemp(s.Dir, "restored-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if took, peak, err = s.Command(ctx, append([]string{"restore", "--restore.dir", dir}, args...)...); err != nil {
		return 0, 0, err
	}
	st, err := os.Stat(filepath.Join(dir, "dump.rdb"))
	if err != nil {
		return 0, 0, err
	}
	if st.Size() < rdb {
		return 0, 0, fmt.Errorf("restore left a dump of %d bytes, want at least %d", st.Size(), rdb)
	}
	return took, peak, nil
}

// scrape reads /metrics n times, as Prometheus does, and returns the size of one
// answer.
func scrape(ctx context.Context, url string, n int) (size int64, err error) {
	r := rig.NewScraper(url + "/metrics")
	r.Gzip = true
	defer r.Close()
	for range n {
		if _, size, err = r.Scrape(ctx); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// manifest is the part of a snapshot's manifest that matters here.
type manifest struct {
	RDB struct {
		Size int64 `json:"size"`
	} `json:"rdb"`
	Durations struct {
		Total float64 `json:"total_seconds"`
	} `json:"durations"`
}

// waitSnapshot waits for the manifest of a snapshot of at least size bytes.
func waitSnapshot(ctx context.Context, s *rig.Servers, agent *rig.Child, size int64) (manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		files, err := filepath.Glob(filepath.Join(s.Bucket, "*", "*", "snapshots", "*", "manifest.json"))
		if err != nil {
			return manifest{}, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // retention removed it
			}
			var m manifest
			if err := json.Unmarshal(text, &m); err != nil {
				return m, fmt.Errorf("%s: %w", file, err)
			}
			if m.RDB.Size >= size {
				return m, nil
			}
		}
		if err := rig.Wait(ctx, 100*time.Millisecond); err != nil {
			return manifest{}, fmt.Errorf("no snapshot of %d bytes: %w\n%s", size, err, agent.Log())
		}
	}
}
