package redis

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// decode reads one reply of RESP2. Strings are parts of raw, which must not be
// changed afterwards: a large reply costs little more than its bytes. An error
// reply, on the top or inside an array, is a *replyError.
func decode(raw []byte) (any, error) {
	d := decoder{text: unsafe.String(unsafe.SliceData(raw), len(raw))}
	v, err := d.value(0)
	if err == nil && d.text != "" {
		err = errNotRESP
	}
	if err != nil {
		return nil, status.WithReason(status.ReasonProtocol, err)
	}
	return v, nil
}

type decoder struct {
	text  string // what is left
	cells []any  // for elements of arrays: one allocation for many arrays
}

func (d *decoder) value(depth int) (any, error) {
	line, rest, ok := strings.Cut(d.text, "\r\n")
	if !ok || line == "" {
		return nil, errNotRESP
	}
	d.text = rest
	switch kind, body := line[0], line[1:]; kind {
	case '+':
		return body, nil
	case '-':
		return &replyError{body}, nil
	case ':':
		n, err := strconv.ParseInt(body, 10, 64)
		if err != nil {
			return nil, errNotRESP
		}
		return n, nil
	case '$':
		n, err := strconv.Atoi(body)
		switch {
		case err != nil:
			return nil, errNotRESP
		case n < 0:
			return nil, nil
		case n > len(d.text)-len("\r\n"):
			return nil, errNotRESP
		}
		v := d.text[:n]
		d.text = d.text[n+len("\r\n"):]
		return v, nil
	case '*':
		n, err := strconv.Atoi(body)
		switch {
		case err != nil || n > len(d.text): // an element has more than one byte
			return nil, errNotRESP
		case n < 0:
			return nil, nil
		case depth == maxReplyDepth:
			return nil, errReplyNesting
		}
		return d.array(n, depth)
	default:
		return nil, fmt.Errorf("%w: it begins with %q", errNotRESP, kind)
	}
}

func (d *decoder) array(n, depth int) (any, error) {
	const block = 64
	if n == 0 {
		return []any{}, nil
	}
	if n > len(d.cells) {
		d.cells = make([]any, max(n, block))
	}
	out := d.cells[:n:n]
	d.cells = d.cells[n:]
	for i := range out {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}
