package redis

import (
	"crypto/tls"
	"testing"
	"time"
)

func TestLifetime(t *testing.T) {
	encrypted := func() (*tls.Config, error) { return &tls.Config{}, nil }
	for name, tc := range map[string]struct {
		o    Options
		want time.Duration
	}{
		"plain":          {Options{}, 0},
		"TLS":            {Options{TLS: encrypted}, time.Hour},
		"TLS, set":       {Options{TLS: encrypted, Lifetime: time.Minute}, time.Minute},
		"plain, set":     {Options{Lifetime: time.Minute}, time.Minute},
		"TLS, unlimited": {Options{TLS: encrypted, Lifetime: -1}, -1},
	} {
		c := New(tc.o)
		if got := c.db.Options().ConnMaxLifetime; got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
		_ = c.Close()
	}
}
