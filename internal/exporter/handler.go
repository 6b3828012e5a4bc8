package exporter

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// timeoutHeader is in which Prometheus says how long it waits.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// NewHandler returns the handler of /metrics: what e scrapes, and what others
// gathers, such as the Board, the Go runtime and the process. Of a metric that
// both have, that of e is shown. The answer comes before the time is over that
// the request's header names, or e's own, whatever the server does.
func NewHandler(e *Exporter, others prometheus.Gatherer) http.Handler {
	opts := promhttp.HandlerOpts{
		ErrorHandling:      promhttp.ContinueOnError,
		DisableCompression: true, // see compressed
		ErrorLog:           slog.NewLogLogger(e.report.Logger().Handler(), slog.LevelError),
	}
	return compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), budget(r.Header.Get(timeoutHeader), e.timeout))
		defer cancel()
		families := e.Scrape(ctx)
		promhttp.HandlerFor(gatherer(func() ([]*dto.MetricFamily, error) {
			more, err := others.Gather()
			return merge(families, more), err
		}), opts).ServeHTTP(w, r)
	}))
}

type gatherer func() ([]*dto.MetricFamily, error)

func (g gatherer) Gather() ([]*dto.MetricFamily, error) { return g() }

const (
	// timeoutOffset is what the answer itself may take of the time of a scrape;
	// of a short one a tenth.
	timeoutOffset = 500 * time.Millisecond
	// maxTimeout bounds what a request may ask for.
	maxTimeout = time.Minute
)

// budget returns how long the server may be waited for, given the value of the
// header.
func budget(header string, fallback time.Duration) time.Duration {
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || !(seconds > 0) {
		return fallback
	}
	d := time.Duration(min(seconds, maxTimeout.Seconds()) * float64(time.Second))
	return d - min(d/10, timeoutOffset)
}

// merge joins two lists of families that are ordered by name. The result is new,
// the lists stay as they are.
func merge(a, b []*dto.MetricFamily) []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch order := strings.Compare(a[0].GetName(), b[0].GetName()); {
		case order < 0:
			out, a = append(out, a[0]), a[1:]
		case order > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}
