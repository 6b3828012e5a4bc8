package exporter_test

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/goleak"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden files anew")

// newExporter returns an exporter with a Board of its own, which logs to the test.
func newExporter(tb testing.TB, server exporter.Server, opts exporter.Options) (*exporter.Exporter, *status.Board) {
	tb.Helper()
	board := status.NewBoard(slog.New(slog.NewTextHandler(tb.Output(), nil)), nil)
	return exporter.New(server, board.Register(status.Exporter, exporter.Reasons()...), opts), board
}

// newClient returns a client that is closed with the test.
func newClient(tb testing.TB, o redis.Options) *redis.Client {
	tb.Helper()
	c := redis.New(o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// text renders families as /metrics does.
func text(tb testing.TB, families []*dto.MetricFamily) string {
	tb.Helper()
	var b bytes.Buffer
	for _, mf := range families {
		if _, err := expfmt.MetricFamilyToText(&b, mf); err != nil {
			tb.Fatalf("render %s: %v", mf.GetName(), err)
		}
	}
	return b.String()
}

// samples returns the value of every line of a scrape by its name and labels.
func samples(tb testing.TB, exposition string) map[string]string {
	tb.Helper()
	out := make(map[string]string)
	for line := range strings.Lines(exposition) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if _, twice := out[line[:i]]; twice {
			tb.Errorf("series %s comes twice", line[:i])
		}
		out[line[:i]] = line[i+1:]
	}
	return out
}

// scrape returns the samples of one scrape.
func scrape(tb testing.TB, e *exporter.Exporter) map[string]string {
	tb.Helper()
	return samples(tb, text(tb, e.Scrape(context.Background())))
}

// expect compares some samples; the value "absent" means that there is none.
func expect(tb testing.TB, got map[string]string, want map[string]string) {
	tb.Helper()
	for series, value := range want {
		have, ok := got[series]
		if !ok {
			have = "absent"
		}
		if have != value {
			tb.Errorf("%s = %s, want %s", series, have, value)
		}
	}
}

// downReason returns the reason for which redis_up is 0, "" when it is 1. It
// checks that everything that tells of it agrees.
func downReason(tb testing.TB, got map[string]string) string {
	tb.Helper()
	reason := ""
	for _, r := range exporter.Reasons() {
		switch v := got[`redis_sidecar_redis_down{reason="`+string(r)+`"}`]; v {
		case "1":
			if reason != "" {
				tb.Errorf("two reasons: %s and %s", reason, r)
			}
			reason = string(r)
		case "0":
		default:
			tb.Errorf("redis_sidecar_redis_down of %s is %q", r, v)
		}
	}
	want := map[string]string{"redis_up": "1", `redis_exporter_last_scrape_error{err=""}`: "0"}
	if reason != "" {
		want = map[string]string{"redis_up": "0", `redis_exporter_last_scrape_error{err="` + reason + `"}`: "1",
			"redis_uptime_in_seconds": "absent"}
	}
	expect(tb, got, want)
	return reason
}

// golden compares text with a file in testdata.
func golden(tb testing.TB, name, got string) {
	tb.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		tb.Errorf("%s (-want +got; go test -update writes it anew):\n%s", path, diff)
	}
}
