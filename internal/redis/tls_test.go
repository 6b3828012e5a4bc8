package redis_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A connection without TLS has no certificate, nor has one that was not made yet.
func TestNoCertificate(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := newClient(t, redis.Options{Addr: srv.Addr})
	for range 2 {
		if at := c.CertificateExpiry(); !at.IsZero() {
			t.Errorf("a certificate that ends at %s", at)
		}
		if _, err := c.Do(t.Context(), "PING"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLS(t *testing.T) {
	dir, ends := t.TempDir(), time.Now().Add(time.Hour)
	cert, key := testenv.Certificate(t, dir, "server", ends)
	other, otherKey := testenv.Certificate(t, dir, "other", ends)
	port := strconv.Itoa(testenv.FreePort(t))
	testenv.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes")

	for name, tc := range map[string]struct {
		files  redis.TLSFiles
		reason status.Reason
		text   string
	}{
		"good":                  {redis.TLSFiles{CA: cert, Cert: cert, Key: key}, "", ""},
		"not verified":          {redis.TLSFiles{InsecureSkipVerify: true, Cert: cert, Key: key}, "", ""},
		"unknown authority":     {redis.TLSFiles{CA: other, Cert: cert, Key: key}, status.ReasonTLS, "certificate"},
		"wrong name":            {redis.TLSFiles{CA: cert, Cert: cert, Key: key, ServerName: "redis.example.com"}, status.ReasonTLS, "redis.example.com"},
		"no client certificate": {redis.TLSFiles{CA: cert}, status.ReasonTLS, "certificate required"},
		"foreign certificate":   {redis.TLSFiles{CA: cert, Cert: other, Key: otherKey}, status.ReasonTLS, "remote error"},
		"no such file":          {redis.TLSFiles{CA: filepath.Join(t.TempDir(), "absent")}, status.ReasonTLS, "absent"},
		"not a certificate":     {redis.TLSFiles{CA: key}, status.ReasonTLS, "holds no certificate"},
		"half a pair":           {redis.TLSFiles{CA: cert, Cert: cert}, status.ReasonTLS, "both a certificate and a key"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, redis.Options{Addr: "127.0.0.1:" + port, TLS: func() (*tls.Config, error) { return tc.files.Config() }, Timeout: 20 * time.Second})
			_, err := c.Do(t.Context(), "PING")
			if tc.reason == "" {
				if err != nil {
					t.Error(err)
				}
				if in := time.Until(c.CertificateExpiry()); in < 50*time.Minute || in > time.Hour {
					t.Errorf("the certificate ends in %s", in)
				}
				return
			}
			if at := c.CertificateExpiry(); !at.IsZero() && tc.text != "certificate required" && tc.text != "remote error" {
				t.Errorf("the certificate ends at %s, and was not accepted", at)
			}
			if status.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("reason %q, want %q and %q: %v", status.ReasonOf(err), tc.reason, tc.text, err)
			}
		})
	}
}

// A certificate that the server has renewed is seen without a restart of either,
// when the connection has lived its time.
func TestRenewedCertificate(t *testing.T) {
	dir, end := t.TempDir(), time.Now().Add(1000*time.Hour).Truncate(time.Second)
	cert, key := testenv.Certificate(t, dir, "old", time.Now().Add(time.Hour))
	renewed, renewedKey := testenv.Certificate(t, dir, "renewed", end)
	port := strconv.Itoa(testenv.FreePort(t))
	srv := testenv.StartRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	client := func(lifetime time.Duration) *redis.Client {
		return newClient(t, redis.Options{Addr: "127.0.0.1:" + port, Lifetime: lifetime, TLS: func() (*tls.Config, error) {
			return redis.TLSFiles{InsecureSkipVerify: true}.Config()
		}})
	}
	id := func(c *redis.Client) int64 {
		t.Helper()
		v, err := c.Do(t.Context(), "CLIENT", "ID")
		if err != nil {
			t.Fatal(err)
		}
		return v.(int64)
	}
	short, long := client(10*time.Millisecond), client(0)
	first := id(long)
	if id(short); short.CertificateExpiry().Equal(end) {
		t.Fatal("the certificate is the new one already")
	}
	srv.Do(t, "CONFIG", "SET", "tls-cert-file", renewed, "tls-key-file", renewedKey)
	testenv.Eventually(t, time.Minute, func() error {
		id(short)
		if got := short.CertificateExpiry(); !got.Equal(end) {
			return fmt.Errorf("the certificate ends at %s, want %s", got, end)
		}
		return nil
	})
	if id(long) != first || long.CertificateExpiry().Equal(end) {
		t.Error("a new connection was made before its time")
	}
}

// A handshake that outlasts the call for which it was begun, and fails, is not
// what the next call is told: that makes a connection of its own.
func TestAbandonedHandshake(t *testing.T) {
	begun, ended := make(chan struct{}, 9), make(chan struct{}, 9)
	addr := testenv.Listen(t, func(_ context.Context, c net.Conn) {
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
		ended <- struct{}{}
	})
	c := newClient(t, redis.Options{Addr: addr, Timeout: 250 * time.Millisecond, TLS: func() (*tls.Config, error) { return &tls.Config{}, nil }})
	for i := range 2 {
		if reason := status.ReasonOf(failIn(t, c, 200*time.Millisecond)); reason != status.ReasonTimeout {
			t.Errorf("call %d: reason %q", i, reason)
		}
		testenv.Eventually(t, time.Minute, func() error {
			if len(ended) == 0 {
				return fmt.Errorf("call %d: %d connections were begun, none has ended", i, len(begun))
			}
			return nil
		})
		<-begun
		<-ended
		if n := len(begun); n != 0 {
			t.Fatalf("call %d made %d connections", i, n+1)
		}
	}
}
