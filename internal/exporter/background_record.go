package exporter

import (
	"slices"
	"strings"
)

// recorder takes the series of one run of a background collector. It keeps none
// of the strings it is given, so that no reply lives on because of a label.
type recorder struct {
	out     *sink
	dropped uint64 // series left out because of a limit
	problem error  // the first that cost only a part of the series

	last   []string // labels of the last series
	labels []string // room for more
	text   strings.Builder
	room   int // how many labels fit into what was last made room for
}

func newRecorder(c *catalog) *recorder { return &recorder{out: newSink(c)} }

// note remembers a problem that costs some of the series.
func (r *recorder) note(err error) {
	if r.problem == nil {
		r.problem = err
	}
}

// set adds one series, as sink.set does.
func (r *recorder) set(f *family, value float64, labels ...string) {
	list := &r.out.series[f.id]
	switch {
	case f.hidden:
	case len(*list) >= f.limit:
		r.dropped++
	default:
		*list = append(*list, sample{labels: r.keep(labels), value: value})
	}
}

// full tells whether a family has all the series it may have.
func (r *recorder) full(f *family) bool { return len(r.out.series[f.id]) >= f.limit }

// expect makes room for n series of a family.
func (r *recorder) expect(f *family, n int) {
	if !f.hidden {
		r.out.series[f.id] = slices.Grow(r.out.series[f.id], min(n, f.limit))
	}
}

// finish returns everything that was set, ordered. It must not be changed.
func (r *recorder) finish() *sink {
	r.out.finish()
	return r.out
}

const (
	minRoom, maxRoom = 32, 2048 // labels
	labelBytes       = 16       // of which each is thought to have so many bytes
)

// keep returns a copy of labels. Series of one thing follow each other and share it.
func (r *recorder) keep(labels []string) []string {
	if len(labels) == 0 {
		return nil
	}
	if slices.Equal(labels, r.last) {
		return r.last
	}
	if len(labels) > len(r.labels) {
		r.room = min(max(2*r.room, minRoom), maxRoom)
		r.labels = make([]string, max(len(labels), r.room))
	}
	out := r.labels[:len(labels):len(labels)]
	r.labels = r.labels[len(labels):]
	for i, v := range labels {
		out[i] = r.copied(labelValue(v))
	}
	r.last = out
	return out
}

// copied returns a copy of s, many from one allocation.
func (r *recorder) copied(s string) string {
	if r.text.Cap()-r.text.Len() < len(s) {
		r.text = strings.Builder{} // a new one: what was handed out has the old one
		r.text.Grow(max(len(s), labelBytes*r.room))
	}
	from := r.text.Len()
	r.text.WriteString(s) // within its capacity, so what was handed out does not move
	return r.text.String()[from:]
}
