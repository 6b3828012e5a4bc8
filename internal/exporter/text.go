package exporter

import (
	"io"
	"math"
	"strconv"
	"strings"
)

// textBlock is after how many bytes a part of the answer is sent.
const textBlock = 32 << 10

// textWriter writes series in Prometheus' text format 0.0.4. It keeps a block
// at a time, never the whole answer.
type textWriter struct {
	w    io.Writer
	buf  []byte
	role string // value of the label instance_role, "" for none
	err  error  // the first one: nobody listens any more
}

// family writes all series of one family.
func (t *textWriter) family(f *family, list []sample) {
	if len(list) == 0 || t.err != nil {
		return
	}
	t.buf = append(t.buf, f.header...)
	for i := range list {
		m := &list[i]
		switch {
		case m.dist == nil:
			t.sample(f, "", m.labels, "", 0)
			t.value(m.value)
		case f.kind == typeSummary:
			t.summary(f, m)
		default:
			t.histogram(f, m)
		}
		if len(t.buf) >= textBlock {
			t.flush()
		}
	}
}

func (t *textWriter) summary(f *family, m *sample) {
	for _, p := range m.dist.points {
		t.sample(f, "", m.labels, "quantile", p.at)
		t.value(p.value)
	}
	t.sample(f, "_sum", m.labels, "", 0)
	t.value(m.dist.sum)
	t.sample(f, "_count", m.labels, "", 0)
	t.count(m.dist.count)
}

func (t *textWriter) histogram(f *family, m *sample) {
	start := len(t.buf)
	t.sample(f, "_bucket", m.labels, "le", math.Inf(1))
	// All lines of the buckets begin alike: up to the value of le.
	t.buf = t.buf[:len(t.buf)-len(`+Inf"} `)]
	n := len(t.buf) - start
	for i, p := range m.dist.points {
		if i > 0 {
			t.buf = append(t.buf, t.buf[start:start+n]...)
		}
		t.buf = appendFloat(t.buf, p.at)
		t.buf = append(t.buf, `"} `...)
		t.value(p.value)
	}
	if len(m.dist.points) > 0 {
		t.buf = append(t.buf, t.buf[start:start+n]...)
	}
	t.buf = append(t.buf, `+Inf"} `...)
	t.count(m.dist.count)
	t.sample(f, "_sum", m.labels, "", 0)
	t.value(m.dist.sum)
	t.sample(f, "_count", m.labels, "", 0)
	t.count(m.dist.count)
}

// sample writes name and labels of one line, and the space behind. extra is the
// name of a label whose value is a number, such as le; it comes last.
func (t *textWriter) sample(f *family, suffix string, labels []string, extra string, number float64) {
	b := append(t.buf, f.name...)
	b = append(b, suffix...)
	open := byte('{')
	for i, v := range labels {
		b = append(b, open)
		b = append(b, f.labels[i]...)
		b = append(b, '=', '"')
		b = appendLabel(b, v)
		b = append(b, '"')
		open = ','
	}
	if t.role != "" && f.role {
		b = append(b, open)
		b = append(b, roleLabel...)
		b = append(b, '=', '"')
		b = appendLabel(b, t.role)
		b = append(b, '"')
		open = ','
	}
	if extra != "" {
		b = append(b, open)
		b = append(b, extra...)
		b = append(b, '=', '"')
		b = appendFloat(b, number)
		b = append(b, '"')
		open = ','
	}
	if open == ',' {
		b = append(b, '}')
	}
	t.buf = append(b, ' ')
}

func (t *textWriter) value(v float64) { t.buf = append(appendFloat(t.buf, v), '\n') }

func (t *textWriter) count(n uint64) { t.buf = append(strconv.AppendUint(t.buf, n, 10), '\n') }

// Write lets other encoders write in between.
func (t *textWriter) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) >= textBlock {
		t.flush()
	}
	return len(p), t.err
}

// flush sends what is there.
func (t *textWriter) flush() {
	if t.err == nil && len(t.buf) > 0 {
		_, t.err = t.w.Write(t.buf)
	}
	t.buf = t.buf[:0]
}

// appendFloat writes a number, whole ones without an exponent.
func appendFloat(b []byte, v float64) []byte {
	const exact = 1 << 53
	switch n := int64(v); {
	case float64(n) == v && n > -exact && n < exact:
		return strconv.AppendInt(b, n, 10)
	case math.IsInf(v, 1):
		return append(b, "+Inf"...)
	case math.IsInf(v, -1):
		return append(b, "-Inf"...)
	case math.IsNaN(v):
		return append(b, "NaN"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// appendLabel writes the value of a label.
func appendLabel(b []byte, v string) []byte {
	if strings.IndexByte(v, '\\') < 0 && strings.IndexByte(v, '"') < 0 && strings.IndexByte(v, '\n') < 0 {
		return append(b, v...)
	}
	for i := range len(v) {
		switch c := v[i]; c {
		case '\\':
			b = append(b, '\\', '\\')
		case '"':
			b = append(b, '\\', '"')
		case '\n':
			b = append(b, '\\', 'n')
		default:
			b = append(b, c)
		}
	}
	return b
}

func escapeHelp(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(s)
}
