package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// Beside a Sentinel the agent needs no settings of its own: in 20 s, whatever the
// jobs do and with scrapes between, nothing is asked that a Sentinel refuses, and
// nobody is told of trouble.
func TestBesideASentinel(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	sentinel := testenv.StartSentinel(t, fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 1", master.Port))
	began := time.Now()
	a := start(t, []string{"REDIS_ADDR=redis://" + sentinel.Addr})
	states := map[string]string{"announce": "ok", "probe": "ok", "exporter": "ok", "config": "disabled", "backup": "disabled"}
	for range 10 {
		a.wantMetric(t, "redis_up", "1")
	}
	for job, state := range states {
		a.waitJob(t, 10*time.Second, job, state, "")
	}
	a.eventually(t, 40*time.Second, func() error {
		if r, err := a.job("announce"); err != nil || r.NextRun.Sub(began) < 20*time.Second {
			return fmt.Errorf("the next look is at %s, %w", r.NextRun, err)
		}
		return nil
	})
	a.wantMetric(t, "redis_up", "1")
	for job, state := range states {
		if r, err := a.job(job); err != nil || r.State != state {
			t.Errorf("%s is %s %s: %s %v", job, r.State, r.Reason, r.Message, err)
		}
	}
	if got, want := a.mustGet(t, "/readyz", 200), "ok: sentinel\n"; got != want {
		t.Errorf("/readyz says %q, want %q", got, want)
	}
	// A Sentinel never answers INFO errorstats. INFO stats counts every error reply.
	if got := info.Parse(sentinel.Do(t, "INFO", "stats").(string)).Get("total_error_replies"); got != "0" {
		t.Errorf("total_error_replies is %s", got)
	}
	if log := a.logged(t); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Error("the log has warnings")
	}
}
