package exporter_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// TLS to a port without, none to a port with it, and a hung server with TLS are
// told apart while Prometheus waits, with the default time for a dial, which is
// longer.
func TestTLSMismatch(t *testing.T) {
	cert, key := testenv.Certificate(t, t.TempDir(), "server", time.Now().Add(time.Hour))
	config := func() (*tls.Config, error) { return redis.TLSFiles{CA: cert}.Config() }
	start := func() (srv *testenv.Redis, addr string) {
		port := strconv.Itoa(testenv.FreePort(t))
		return testenv.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key,
			"--tls-ca-cert-file", cert, "--tls-auth-clients", "no"), "127.0.0.1:" + port
	}
	srv, addr := start()
	hung, hungAddr := start()
	hung.Signal(t, syscall.SIGSTOP)
	// Those that hang take all the time that there is, the others a part of it.
	const long, short = "4", "2"
	for name, tc := range map[string]struct {
		o      redis.Options
		waits  string // seconds
		reason status.Reason
	}{
		"right":               {redis.Options{Addr: addr, TLS: config}, long, ""},
		"TLS to a plain port": {redis.Options{Addr: srv.Addr, TLS: config}, long, status.ReasonTLS},
		"plain to a TLS port": {redis.Options{Addr: addr}, long, status.ReasonTLS},
		"hung, TLS":           {redis.Options{Addr: hungAddr, TLS: config}, short, status.ReasonTimeout},
		"hung, plain to TLS":  {redis.Options{Addr: hungAddr}, short, status.ReasonTimeout},
		"hung, TLS to plain":  {redis.Options{Addr: hung.Addr, TLS: config}, short, status.ReasonTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// PING is timed before INFO is asked: both have to be refused in time.
			for _, ping := range []bool{false, true} {
				e, board := newExporter(t, newClient(t, tc.o), exporter.Options{Collect: exporter.CollectOptions{Ping: ping}})
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
				r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", tc.waits)
				w := httptest.NewRecorder()
				began := time.Now()
				exporter.NewHandler(e, nil).ServeHTTP(w, r)
				if took := time.Since(began); took > 4500*time.Millisecond { // a dial has 5 s
					t.Errorf("the answer took %s", took)
				}
				if reason := downReason(t, samples(t, w.Body.String())); reason != string(tc.reason) {
					t.Errorf("down because of %q, want %q", reason, tc.reason)
				}
				if got, _ := board.Report(status.Exporter); got.Reason != tc.reason {
					t.Errorf("the Board says %s, %s: %s", got.State, got.Reason, got.Message)
				}
			}
		})
	}
}
