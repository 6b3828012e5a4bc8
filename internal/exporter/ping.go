package exporter

import (
	"context"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// certificateHolder may be implemented by a Server: when the certificate ends
// that the server showed for the latest connection; the zero time without TLS.
type certificateHolder interface{ CertificateExpiry() time.Time }

// timePing returns how long the server took to answer PING, 0 when it is not to
// be asked or gave no good answer. A kept connection that broke meanwhile is
// made anew once.
func (e *Exporter) timePing(ctx context.Context) time.Duration {
	if !e.ping {
		return 0
	}
	for range 2 {
		start := time.Now()
		replies, err := e.server.Pipeline(ctx, []string{"PING"})
		if err == nil && len(replies) == 1 && replies[0] == "PONG" {
			return time.Since(start)
		}
		if status.ReasonOf(err) != status.ReasonUnreachable || ctx.Err() != nil {
			return 0
		}
	}
	return 0
}
