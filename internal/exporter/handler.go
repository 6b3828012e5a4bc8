package exporter

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// timeoutHeader is in which Prometheus says how long it waits.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// NewHandler returns the handler of /metrics: what e scrapes, and what others
// gathers, such as the Go runtime; the jobs' metrics are e's, see Options.Sources.
// Of a metric that both have, that of e is shown. The answer comes before the time is over that
// the request's header names, or e's own, whatever the server does.
//
// The query parameters name[] and collect[] may come several times: then only
// metrics of these names, or of these collectors, are shown. others may be nil.
func NewHandler(e *Exporter, others prometheus.Gatherer) http.Handler {
	if others == nil {
		others = none{}
	}
	return compressed(&handler{e: e, others: others})
}

// none gathers nothing.
type none struct{}

func (none) Gather() ([]*dto.MetricFamily, error) { return nil, nil }

type handler struct {
	e      *Exporter
	others prometheus.Gatherer
	blocks sync.Pool // of *[]byte, see textWriter
}

// ServeHTTP answers one scrape.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), budget(r.Header.Get(timeoutHeader), h.e.timeout))
	defer cancel()
	show, err := h.selection(r)
	if err != nil {
		http.Error(w, "400: "+err.Error(), http.StatusBadRequest)
		return
	}
	format := expfmt.NegotiateAccept(r.Header, expfmt.DefaultAcceptedFormats()...)
	out := h.e.scrape(ctx)
	defer out.release()
	others, err := h.others.Gather()
	if err != nil {
		h.e.report.Logger().Error("metrics from outside the exporter are incomplete", "error", err)
	}
	w.Header().Add("Vary", "Accept")
	w.Header().Set("Content-Type", string(format))
	switch {
	case r.Method == http.MethodHead:
	case format.FormatType() == expfmt.TypeTextPlain:
		h.serveText(w, out, others, show)
	default:
		serveFamilies(w, format, out, others, show)
	}
}

// serveText writes everything in the order of the names.
func (h *handler) serveText(w http.ResponseWriter, out *sink, others []*dto.MetricFamily, show selection) {
	block, _ := h.blocks.Get().(*[]byte)
	if block == nil {
		block = new([]byte)
	}
	t := &textWriter{w: w, buf: (*block)[:0], role: out.role}
	before := func(name string) { // those of others that come before that name
		for len(others) > 0 && (name == "" || others[0].GetName() <= name) {
			if n := others[0].GetName(); n != name && show.name(n) {
				// An error would be of t, which keeps it.
				_, _ = expfmt.MetricFamilyToText(t, others[0])
			}
			others = others[1:]
		}
	}
	passed := out.passed
	for id, list := range out.series {
		if len(list) == 0 {
			continue
		}
		f := out.catalog.families[id]
		for len(passed) > 0 && passed[0].family.name < f.name {
			before(passed[0].family.name)
			t.passed(passed[0], show)
			passed = passed[1:]
		}
		before(f.name)
		if show.family(f) {
			t.family(f, list)
		}
	}
	for _, p := range passed {
		before(p.family.name)
		t.passed(p, show)
	}
	before("")
	t.flush()
	*block = t.buf
	h.blocks.Put(block)
}

func (t *textWriter) passed(p passed, show selection) {
	if show.family(p.family) {
		t.family(p.family, []sample{{value: p.value}})
	}
}

// serveFamilies writes the protobuf format, by way of Prometheus' own types.
func serveFamilies(w http.ResponseWriter, format expfmt.Format, out *sink, others []*dto.MetricFamily, show selection) {
	others = slices.DeleteFunc(others, func(mf *dto.MetricFamily) bool { return !show.name(mf.GetName()) })
	e := expfmt.NewEncoder(w, format)
	for _, mf := range merge(out.families(show), others) {
		if e.Encode(mf) != nil {
			return // a client that went away
		}
	}
}

// selection says which metrics a request wants. The zero value is all of them.
type selection struct{ names, collectors []string }

func (h *handler) selection(r *http.Request) (selection, error) {
	if r.URL.RawQuery == "" {
		return selection{}, nil
	}
	q := r.URL.Query()
	s := selection{names: q["name[]"], collectors: q["collect[]"]}
	for _, name := range s.collectors {
		if !slices.ContainsFunc(h.e.collectors, func(c collector) bool { return c.name() == name }) && !h.e.background.has(name) {
			return s, fmt.Errorf("collect[]: there is no collector %q here, or it is switched off; there are %s", name,
				strings.Join(append(h.e.names(), h.e.background.names()...), ", "))
		}
	}
	return s, nil
}

// name tells whether a metric that is not of the exporter is wanted.
func (s selection) name(name string) bool {
	return len(s.collectors) == 0 && (len(s.names) == 0 || slices.Contains(s.names, name))
}

// family tells whether a metric is wanted. What the exporter says of itself, such
// as up, belongs to no collector and to every choice of them.
func (s selection) family(f *family) bool {
	return (len(s.collectors) == 0 || f.owner == "" || slices.Contains(s.collectors, f.owner)) &&
		(len(s.names) == 0 || slices.Contains(s.names, f.name))
}

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

// merge joins two lists of families that are ordered by name; of a name that
// both have, that of a stays.
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
