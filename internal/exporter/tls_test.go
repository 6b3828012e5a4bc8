package exporter_test

import (
	"crypto/tls"
	"strconv"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The end of the server's certificate is that of the connection in use, and is
// still told when the server does not answer any more.
func TestCertificateExpiry(t *testing.T) {
	dir := t.TempDir()
	soon, later := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(1000*time.Hour).Truncate(time.Second)
	cert, key := testenv.Certificate(t, dir, "server", soon)
	port := strconv.Itoa(testenv.FreePort(t))
	srv := testenv.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	c := newClient(t, redis.Options{Addr: "127.0.0.1:" + port, TLS: func() (*tls.Config, error) {
		return redis.TLSFiles{CA: cert, InsecureSkipVerify: true}.Config()
	}})
	e, _ := newExporter(t, c, exporter.Options{})
	const metric = "redis_tls_server_certificate_expiry_timestamp_seconds"
	ends := func(at time.Time) {
		t.Helper()
		if v := number(t, scrape(t, e)[metric]); v != float64(at.Unix()) {
			t.Errorf("ends at %v, want %d", v, at.Unix())
		}
	}
	ends(soon)

	testenv.Certificate(t, dir, "server", later)
	srv.Do(t, "CONFIG", "SET", "tls-cert-file", cert, "tls-key-file", key)
	ends(soon) // the connection is the old one
	srv.Restart(t)
	ends(later)
	srv.Stop(t)
	ends(later)

	plain := testenv.StartRedis(t)
	without, _ := newExporter(t, plain.Client(t), exporter.Options{})
	expect(t, scrape(t, without), map[string]string{metric: "absent"})
}
