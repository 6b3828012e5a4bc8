package exporter_test

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// get asks a handler as a Prometheus server would.
func get(t *testing.T, h http.Handler, target string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("%s: status %d: %s", target, w.Code, w.Body)
	}
	return w
}

func TestHandler(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	others := prometheus.NewRegistry()
	for _, name := range []string{"a_first", "redis_sidecar_build_info", "redis_up", "zz_last"} {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "Of the other registry."})
		g.Set(42)
		others.MustRegister(g)
	}
	h := exporter.NewHandler(e, others)

	w := get(t, h, "/metrics", nil)
	if ct := w.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", ct)
	}
	body := w.Body.String()
	expect(t, samples(t, body), map[string]string{
		"redis_up": "1", "a_first": "42", "redis_sidecar_build_info": "42", "zz_last": "42", "redis_exporter_scrapes_total": "1",
	})
	p := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := p.TextToMetricFamilies(strings.NewReader(body)); err != nil {
		t.Errorf("the body does not parse: %v", err)
	}

	w = get(t, h, "/metrics?name[]=redis_up&name[]=zz_last", nil)
	if got := samples(t, w.Body.String()); len(got) != 2 {
		t.Errorf("name[] gave %v", got)
	}

	// Prometheus 3 would rather have OpenMetrics, in which samples of some old
	// names could not be.
	w = get(t, h, "/metrics", map[string]string{"Accept": "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"})
	if ct := w.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", ct)
	}

	w = get(t, h, "/metrics", map[string]string{"Accept-Encoding": "gzip"})
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, samples(t, string(plain)), map[string]string{"redis_up": "1"})
}

// A server that hangs must not take Prometheus' whole time: then there would be
// no redis_up at all.
func TestHandlerDeadline(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{Timeout: 400 * time.Millisecond})
	h := exporter.NewHandler(e, prometheus.NewRegistry())
	get(t, h, "/metrics", nil)
	srv.Signal(t, syscall.SIGSTOP)
	for header, want := range map[string]time.Duration{
		"":      400 * time.Millisecond,
		"0.3":   270 * time.Millisecond,
		"1.1":   990 * time.Millisecond,
		"no":    400 * time.Millisecond,
		"NaN":   400 * time.Millisecond,
		"-1":    400 * time.Millisecond,
		"0":     400 * time.Millisecond,
		"1e-9":  0,
		"1e-99": 0,
	} {
		start := time.Now()
		w := get(t, h, "/metrics", map[string]string{"X-Prometheus-Scrape-Timeout-Seconds": header})
		took := time.Since(start)
		if took < want || took > want+3*time.Second { // the client's own time is 5 s
			t.Errorf("header %q: %s, want %s", header, took, want)
		}
		if reason := downReason(t, samples(t, w.Body.String())); reason != string(status.ReasonTimeout) {
			t.Errorf("header %q: down because of %q", header, reason)
		}
	}
}

// odd answers everything but INFO with what no collector foresees.
type odd struct{}

func (odd) Pipeline(_ context.Context, commands ...[]string) ([]any, error) {
	out := make([]any, len(commands))
	out[0] = "redis_version:7.0.0\r\nrun_id:a\r\nuptime_in_seconds:1\r\n"
	for i := range out[1:] {
		out[i+1] = []any{1, []any{nil}, map[string]any{}}
	}
	return out, nil
}

// Odd replies cost the metrics of their collector, nothing else.
func TestOddReplies(t *testing.T) {
	e, board := newExporter(t, odd{}, exporter.Options{})
	got := scrape(t, e)
	want := map[string]string{"redis_up": "1", "redis_uptime_in_seconds": "1", `redis_db_keys{db="db0"}`: "0"}
	for collector, ok := range map[string]string{"info": "1", "config": "0", "slowlog": "0", "latency": "0", "histogram": "0"} {
		want[`redis_sidecar_exporter_collector_success{collector="`+collector+`"}`] = ok
	}
	expect(t, got, want)
	if r, _ := board.Report(status.Exporter); r.State != status.Warning || r.Reason != status.ReasonProtocol {
		t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
	}
}
