package main

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The first scrape has every metric of the sidecar itself that docs/metrics.md
// names, whatever state the jobs are in, and the page names every one it has.
func TestMetricsAreThereFromTheStartAndDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "redis.conf")
	if err := os.WriteFile(conf, []byte("maxmemory 100mb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &env{stdout: io.Discard, stderr: io.Discard}
	l, err := load(e, []string{"--redis.addr=127.0.0.1:1", "--web.listen-address=127.0.0.1:0", "--config.path=" + conf,
		"--backup.store=file://" + t.TempDir(), "--backup.schedule=@daily", "--exporter.check-single-keys=a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAgent(e, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	body := scrape(t, a)

	name := regexp.MustCompile(`redis_sidecar_[a-z_]+`)
	scraped, documented := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok && strings.HasPrefix(rest, "redis_sidecar_") {
			scraped[strings.Fields(rest)[0]] = true
		}
	}
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `redis_sidecar_") {
			documented[name.FindString(line)] = true
		}
	}
	later := map[string]bool{ // what cannot be known before the server, or the machine, has said it
		"redis_sidecar_announce_address_info":    true,
		"redis_sidecar_exporter_command_refused": true,
	}
	for m := range documented {
		if !scraped[m] && !later[m] {
			t.Errorf("%s is documented, and not in the first scrape", m)
		}
	}
	for m := range scraped {
		if !documented[m] {
			t.Errorf("%s is not in docs/metrics.md", m)
		}
	}
	if len(scraped) < 25 {
		t.Errorf("only %d metrics were scraped", len(scraped))
	}
}

// scrape serves what a has, without its jobs, and returns /metrics.
func scrape(t *testing.T, a *agent) string {
	t.Helper()
	addrs, err := a.server.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addrs[0]+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
