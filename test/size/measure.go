package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"time"
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

	s, err := startServers(ctx, binary)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if err := s.fill(ctx, 10*mib); err != nil {
		return nil, err
	}
	agent, err := s.startAgent(ctx)
	if err != nil {
		return nil, err
	}

	step("idle for 20 s: all jobs on, 10 MiB of data")
	if err := wait(ctx, 20*time.Second); err != nil {
		return nil, err
	}
	rss, err := agent.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	figures = append(figures, figure{"resident, idle", rss, 20 * mib, mib, "announce, config, exporter, backup schedule, probes"})

	step("%d scrapes", scrapes)
	start := time.Now()
	size, err := s.scrape(ctx, scrapes)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d bytes each, %.1f ms each", size, time.Since(start).Seconds()*1000/scrapes)
	if rss, err = agent.memory("VmRSS"); err != nil {
		return nil, err
	}
	figures = append(figures, figure{fmt.Sprintf("resident, after %d scrapes", scrapes), rss, 20 * mib, mib, note})

	step("writing %d MiB of data that does not compress", rdb/mib)
	if err := s.fill(ctx, rdb); err != nil {
		return nil, err
	}
	step("waiting for the scheduled backup")
	if err := agent.resetPeak(); err != nil {
		return nil, err
	}
	made, err := s.waitSnapshot(ctx, rdb)
	if err != nil {
		return nil, err
	}
	peak, err := agent.memory("VmHWM")
	if err != nil {
		return nil, err
	}
	note = fmt.Sprintf("RDB of %.0f MiB, snapshot took %.1f s", float64(made.RDB.Size)/mib, made.Durations.Total)
	figures = append(figures, figure{"peak of the agent, backing up", peak, 64 * mib, mib, note})

	step("backup now")
	took, peak, err := s.command(ctx, "backup", "now")
	if err != nil {
		return nil, err
	}
	figures = append(figures, figure{"peak of backup now", peak, 64 * mib, mib, fmt.Sprintf("%.1f s", took.Seconds())})

	step("restore")
	dir, err := os.MkdirTemp(s.dir, "restored-")
	if err != nil {
		return nil, err
	}
	if took, peak, err = s.command(ctx, "restore", "--restore.dir", dir); err != nil {
		return nil, err
	}
	if st, err = os.Stat(filepath.Join(dir, "dump.rdb")); err != nil {
		return nil, err
	}
	if st.Size() < rdb {
		return nil, fmt.Errorf("restore left a dump of %d bytes, want at least %d", st.Size(), rdb)
	}
	return append(figures, figure{"peak of restore", peak, 64 * mib, mib, fmt.Sprintf("%.1f s", took.Seconds())}), nil
}

// scrape reads /metrics n times and returns the size of one answer.
func (s *servers) scrape(ctx context.Context, n int) (int64, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var size int64
	for range n {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.agentURL+"/metrics", nil)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		size, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, errors.New("scrape: " + resp.Status)
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
func (s *servers) waitSnapshot(ctx context.Context, size int64) (manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		files, err := filepath.Glob(filepath.Join(s.bucket, "*", "*", "snapshots", "*", "manifest.json"))
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
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return manifest{}, fmt.Errorf("no snapshot of %d bytes: %w\n%s", size, err, s.agentLog())
		}
	}
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
