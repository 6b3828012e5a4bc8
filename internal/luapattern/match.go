package luapattern

import (
	"strconv"
	"strings"
)

// Find tells whether the pattern is found in text, and returns the captures of
// the first match, joined; a match without captures has "". The error is
// [ErrSteps] or nil.
func (p Pattern) Find(text string) (captured string, ok bool, err error) {
	if p.Plain() {
		return "", strings.Contains(text, p.text), nil
	}
	m := matcher{Pattern: p, src: text, steps: maxSteps}
	from := 0
	anchor := strings.HasPrefix(p.text, "^")
	if anchor {
		from = 1
	}
	for at := 0; at <= len(text); at++ {
		m.level = 0
		if m.match(at, from) >= 0 {
			return m.joined(), true, nil
		}
		if m.steps <= 0 {
			return "", false, ErrSteps
		}
		if anchor {
			break
		}
	}
	return "", false, nil
}

// matcher is a match under way. Positions of src are at or end, positions of
// the pattern are p; -1 is no match.
type matcher struct {
	Pattern
	src   string
	steps int

	level    int
	captures [MaxCaptures]capture
}

// capture is a part of the text. Its length is one of those below while it
// has none.
type capture struct{ start, length int }

const (
	unfinished = -1 // the closing parenthesis is still to come
	position   = -2 // "()" captures where it stands
)

// joined returns all captures, one behind the other.
func (m *matcher) joined() string {
	if m.level == 1 && m.captures[0].length >= 0 {
		c := m.captures[0]
		return m.src[c.start : c.start+c.length]
	}
	var b strings.Builder
	for _, c := range m.captures[:m.level] {
		if c.length == position {
			b.WriteString(strconv.Itoa(c.start + 1)) // Lua counts from 1
		} else if c.length >= 0 {
			b.WriteString(m.src[c.start : c.start+c.length])
		}
	}
	return b.String()
}

// match matches the pattern from p on against the text from at on and returns
// where the match ends.
func (m *matcher) match(at, p int) int {
	for {
		if m.steps--; m.steps < 0 {
			return -1
		}
		if p >= len(m.text) {
			return at
		}
		switch m.text[p] {
		case '(':
			if p+1 < len(m.text) && m.text[p+1] == ')' {
				return m.open(at, p+2, position)
			}
			return m.open(at, p+1, unfinished)
		case ')':
			return m.close(at, p+1)
		case '$':
			if p+1 == len(m.text) {
				if at == len(m.src) {
					return at
				}
				return -1
			}
		case '%':
			switch next := m.text[p+1]; {
			case next == 'b':
				if at = m.balance(at, p+2); at < 0 {
					return -1
				}
				p += 4
				continue
			case next == 'f':
				p += 2
				end, _ := m.classEnd(p)
				if m.inSet(m.before(at), p, end-1) || !m.inSet(m.byteAt(at), p, end-1) {
					return -1
				}
				p = end
				continue
			case isDigit(next):
				if at = m.repeat(at, int(next-'1')); at < 0 {
					return -1
				}
				p += 2
				continue
			}
		}
		end, _ := m.classEnd(p)
		suffix := byte(0)
		if end < len(m.text) {
			suffix = m.text[end]
		}
		switch suffix {
		case '?':
			if m.single(at, p, end) {
				if to := m.match(at+1, end+1); to >= 0 {
					return to
				}
			}
			p = end + 1
		case '*':
			return m.most(at, p, end, 0)
		case '+':
			return m.most(at, p, end, 1)
		case '-':
			return m.fewest(at, p, end)
		default:
			if !m.single(at, p, end) {
				return -1
			}
			at++
			p = end
		}
	}
}

// most matches as many as possible of the class, but not fewer than least.
func (m *matcher) most(at, p, end, least int) int {
	n := 0
	for m.single(at+n, p, end) {
		n++
	}
	for ; n >= least; n-- {
		if to := m.match(at+n, end+1); to >= 0 || m.steps < 0 {
			return to
		}
	}
	return -1
}

// fewest matches as few as possible of the class.
func (m *matcher) fewest(at, p, end int) int {
	for {
		if to := m.match(at, end+1); to >= 0 || m.steps < 0 {
			return to
		}
		if !m.single(at, p, end) {
			return -1
		}
		at++
	}
}

// open begins a capture.
func (m *matcher) open(at, p, length int) int {
	m.captures[m.level] = capture{at, length}
	m.level++
	to := m.match(at, p)
	if to < 0 {
		m.level--
	}
	return to
}

// close ends the capture that was begun last.
func (m *matcher) close(at, p int) int {
	i := m.level - 1
	for m.captures[i].length != unfinished {
		i--
	}
	m.captures[i].length = at - m.captures[i].start
	to := m.match(at, p)
	if to < 0 {
		m.captures[i].length = unfinished
	}
	return to
}

// repeat matches the text of a capture once more.
func (m *matcher) repeat(at, n int) int {
	c := m.captures[n]
	if c.length < 0 { // a position: Lua finds no text of that length
		return -1
	}
	if !strings.HasPrefix(m.src[at:], m.src[c.start:c.start+c.length]) {
		return -1
	}
	return at + c.length
}

// balance matches text that begins and ends with the two characters at p of the
// pattern, and has as many of the one as of the other.
func (m *matcher) balance(at, p int) int {
	if at >= len(m.src) || m.src[at] != m.text[p] {
		return -1
	}
	first, last, depth := m.text[p], m.text[p+1], 1
	for i := at + 1; i < len(m.src); i++ {
		switch m.src[i] {
		case last: // first of all: both may be the same
			if depth--; depth == 0 {
				return i + 1
			}
		case first:
			depth++
		}
	}
	return -1
}

// before returns the byte before at, 0 at the beginning.
func (m *matcher) before(at int) byte {
	if at == 0 {
		return 0
	}
	return m.src[at-1]
}

// byteAt returns a byte, 0 at the end.
func (m *matcher) byteAt(at int) byte {
	if at == len(m.src) {
		return 0
	}
	return m.src[at]
}

// single tells whether there is a byte at that is in the class from p to end.
func (m *matcher) single(at, p, end int) bool {
	if at >= len(m.src) {
		return false
	}
	m.steps--
	c := m.src[at]
	switch m.text[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.text[p+1])
	case '[':
		return m.inSet(c, p, end-1)
	}
	return m.text[p] == c
}

// inSet tells whether c is in the set whose brackets are at p and last.
func (m *matcher) inSet(c byte, p, last int) bool {
	in := true
	p++
	if m.text[p] == '^' {
		in = false
		p++
	}
	for ; p < last; p++ {
		switch {
		case m.text[p] == '%':
			p++
			if inClass(c, m.text[p]) {
				return in
			}
		case p+2 < last && m.text[p+1] == '-':
			if m.text[p] <= c && c <= m.text[p+2] {
				return in
			}
			p += 2
		case m.text[p] == c:
			return in
		}
	}
	return !in
}

// inClass tells whether c is in %class, by ASCII. A capital is the opposite;
// what is no letter stands for itself.
func inClass(c, class byte) bool {
	lower := class | 0x20
	var in bool
	switch lower {
	case 'a':
		in = isLetter(c)
	case 'c':
		in = c < 0x20 || c == 0x7f
	case 'd':
		in = isDigit(c)
	case 'l':
		in = 'a' <= c && c <= 'z'
	case 'p':
		in = 0x20 < c && c < 0x7f && !isLetter(c) && !isDigit(c)
	case 's':
		in = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		in = 'A' <= c && c <= 'Z'
	case 'w':
		in = isLetter(c) || isDigit(c)
	case 'x':
		in = isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		in = c == 0
	default:
		return c == class
	}
	return in == (class == lower)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
