package redis

import (
	"errors"
	"math"
)

// Limits of one reply besides its bytes. A client library believes a length that
// the server announces: it makes room for all elements of an array at once, and
// calls itself for each array in an array. Real replies stay far below.
const (
	maxReplyDepth    = 32
	maxReplyElements = 1 << 18
	maxReplyLine     = 64 << 10 // a status, an error, a number or a length
)

var (
	errNotRESP      = errors.New("the reply is not of the Redis protocol")
	errReplyNesting = errors.New("the reply has too many arrays in one another")
	errReplyArray   = errors.New("the reply has too many elements")
)

// guard follows the protocol (RESP2 and RESP3) in what a server sends, as far as
// is needed to know that a client may believe the lengths in it. The zero value
// is ready.
type guard struct {
	limit int64 // bytes that one reply may announce

	open     [maxReplyDepth]int64 // elements still to come, for each open array
	depth    int
	elements int64 // of the reply that is being read
	skip     int64 // bytes of a bulk string still to come, its line end included
	line     int   // bytes of the present line so far
	cr       bool  // the last of them is a carriage return
	kind     byte  // of that line
	length   int64 // the number in that line, for kinds that have a length; -1 for none
	negative bool
}

// check looks at the next bytes.
func (g *guard) check(p []byte) error {
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, int64(len(p)))
			p, g.skip = p[n:], g.skip-n
			if g.skip == 0 {
				g.ended()
			}
			continue
		}
		if err := g.byte(p[0]); err != nil {
			return err
		}
		p = p[1:]
	}
	return nil
}

// byte takes one byte of a line.
func (g *guard) byte(b byte) error {
	g.line++
	cr := g.cr
	g.cr = b == '\r'
	switch {
	case g.line == 1:
		g.kind, g.length, g.negative = b, 0, false
		switch b {
		case '+', '-', ':', '_', ',', '#', '(', '$', '=', '!', '*', '~', '%', '>', '|':
			return nil
		}
		return errNotRESP
	case b == '\n' && !cr:
		return errNotRESP
	case b == '\n':
		g.line = 0
		return g.header()
	case g.line > maxReplyLine:
		return errReplyLimit
	case !g.hasLength() || b == '\r':
	case b == '-' && g.line == 2:
		g.negative = true
	case b >= '0' && b <= '9' && g.length < math.MaxInt32:
		g.length = g.length*10 + int64(b-'0')
	default:
		return errNotRESP
	}
	return nil
}

// hasLength tells whether the line says how much follows it.
func (g *guard) hasLength() bool {
	switch g.kind {
	case '$', '=', '!', '*', '~', '%', '>', '|':
		return true
	}
	return false
}

// header acts on a line that is complete.
func (g *guard) header() error {
	if !g.hasLength() || g.negative { // a negative length is nil
		g.ended()
		return nil
	}
	switch g.kind {
	case '$', '=', '!':
		if g.length > g.limit {
			return errReplyLimit
		}
		g.skip = g.length + int64(len("\r\n"))
		return nil
	case '%', '|':
		g.length *= 2 // keys and values
	}
	if g.kind == '|' {
		g.length++ // attributes come before the reply that they belong to
	}
	if g.elements += g.length; g.elements > maxReplyElements {
		return errReplyArray
	}
	if g.length == 0 {
		g.ended()
		return nil
	}
	if g.depth == maxReplyDepth {
		return errReplyNesting
	}
	g.open[g.depth] = g.length
	g.depth++
	return nil
}

// ended notes the end of one element, and of the arrays that it was the last of.
func (g *guard) ended() {
	for g.depth > 0 {
		if g.open[g.depth-1]--; g.open[g.depth-1] > 0 {
			return
		}
		g.depth--
	}
	g.elements = 0
}
