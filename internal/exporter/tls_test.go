package exporter_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// issue writes a self-signed certificate for 127.0.0.1 that ends at a given
// time, and its key.
func issue(t *testing.T, cert, key string, ends time.Time) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: ends,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The end of the server's certificate is that of the connection in use, and is
// still told when the server does not answer any more.
func TestCertificateExpiry(t *testing.T) {
	cert, key := filepath.Join(t.TempDir(), "crt"), filepath.Join(t.TempDir(), "key")
	soon, later := time.Now().Add(time.Hour).Truncate(time.Second), time.Now().Add(1000*time.Hour).Truncate(time.Second)
	issue(t, cert, key, soon)
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

	issue(t, cert, key, later)
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
