package exporter

import (
	"errors"
	"strconv"
	"strings"
)

// luaPattern is a pattern of Lua 5.1, the Lua in Redis: what its string.find
// takes. The manual of Lua 5.1, section 5.4.1, describes it; %f[set], which the
// manual leaves out, is known too.
type luaPattern struct {
	text  string
	plain bool // without any of luaSpecials it is no more than a text
}

// luaSpecials are the characters that make a text a pattern, for string.find. A
// closing parenthesis alone does not.
const luaSpecials = "^$*+?.([%-"

const (
	// luaCaptures is how many captures a pattern may have, as in Lua.
	luaCaptures = 32
	// luaSteps bounds the work for one text: a pattern such as ".-.-.-.-x" takes
	// a time that grows with a power of the text's length.
	luaSteps = 200_000
)

var (
	errLuaPercent  = errors.New("it ends with %: write %% for a percent sign")
	errLuaSet      = errors.New("a [ has no ]: write %[ for a bracket")
	errLuaBalance  = errors.New("%b needs two characters behind it")
	errLuaFrontier = errors.New("%f needs a [set] behind it")
	errLuaCapture  = errors.New("parentheses do not pair, or there are more than 32 captures: write %( and %) for parentheses")
	errLuaBackRef  = errors.New("%1 to %9 must follow the end of the capture with that number")
	errLuaSteps    = errors.New("it takes too long on a key: use fewer of * + -")
)

// compileLua checks a pattern as a whole. Lua itself finds a mistake only when
// a text leads to it.
func compileLua(text string) (luaPattern, error) {
	p := luaPattern{text, !strings.ContainsAny(text, luaSpecials)}
	if p.plain {
		return p, nil
	}
	var open []int
	var closed [luaCaptures]bool
	captures := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '(':
			if captures == luaCaptures {
				return p, errLuaCapture
			}
			if strings.HasPrefix(text[i:], "()") {
				closed[captures] = true
				i++
			} else {
				open = append(open, captures)
			}
			captures++
			i++
			continue
		case c == ')':
			if len(open) == 0 {
				return p, errLuaCapture
			}
			closed[open[len(open)-1]] = true
			open = open[:len(open)-1]
			i++
			continue
		case c == '%' && i+1 < len(text) && text[i+1] == 'b':
			if i+3 >= len(text) {
				return p, errLuaBalance
			}
			i += 4
			continue
		case c == '%' && i+1 < len(text) && text[i+1] == 'f':
			if i+2 >= len(text) || text[i+2] != '[' {
				return p, errLuaFrontier
			}
			i += 2
		case c == '%' && i+1 < len(text) && isDigit(text[i+1]):
			n := int(text[i+1] - '1')
			if text[i+1] == '0' || n >= captures || !closed[n] {
				return p, errLuaBackRef
			}
			i += 2
			continue
		}
		end, err := p.classEnd(i)
		if err != nil {
			return p, err
		}
		i = end
	}
	if len(open) > 0 {
		return p, errLuaCapture
	}
	return p, nil
}

// classEnd returns where the single-character class ends that begins at i.
func (p luaPattern) classEnd(i int) (int, error) {
	c := p.text[i]
	i++
	switch c {
	case '%':
		if i == len(p.text) {
			return 0, errLuaPercent
		}
		return i + 1, nil
	case '[':
		if i < len(p.text) && p.text[i] == '^' {
			i++
		}
		for first := true; first || i >= len(p.text) || p.text[i] != ']'; first = false {
			if i >= len(p.text) {
				return 0, errLuaSet
			}
			if p.text[i] == '%' {
				i++ // what follows has no meaning of its own
			}
			i++
		}
		return i + 1, nil
	}
	return i, nil
}

// find returns the captures of the first match in text, joined, as
// redis_exporter names a group of keys; a match without captures has "".
func (p luaPattern) find(text string) (captured string, ok bool, err error) {
	if p.plain {
		return "", strings.Contains(text, p.text), nil
	}
	m := luaMatch{luaPattern: p, src: text, steps: luaSteps}
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
			return "", false, errLuaSteps
		}
		if anchor {
			break
		}
	}
	return "", false, nil
}

// luaMatch is a match under way. Positions of src are at or end, positions of
// the pattern are p; -1 is no match.
type luaMatch struct {
	luaPattern
	src   string
	steps int

	level    int
	captures [luaCaptures]luaCapture
}

// luaCapture is a part of the text. Its length is one of those below while it
// has none.
type luaCapture struct{ start, length int }

const (
	luaOpen     = -1 // the closing parenthesis is still to come
	luaPosition = -2 // "()" captures where it stands
)

// joined returns all captures, one behind the other.
func (m *luaMatch) joined() string {
	if m.level == 1 && m.captures[0].length >= 0 {
		c := m.captures[0]
		return m.src[c.start : c.start+c.length]
	}
	var b strings.Builder
	for _, c := range m.captures[:m.level] {
		if c.length == luaPosition {
			b.WriteString(strconv.Itoa(c.start + 1)) // Lua counts from 1
		} else if c.length >= 0 {
			b.WriteString(m.src[c.start : c.start+c.length])
		}
	}
	return b.String()
}

// match matches the pattern from p on against the text from at on and returns
// where the match ends.
func (m *luaMatch) match(at, p int) int {
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
				return m.open(at, p+2, luaPosition)
			}
			return m.open(at, p+1, luaOpen)
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
func (m *luaMatch) most(at, p, end, least int) int {
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
func (m *luaMatch) fewest(at, p, end int) int {
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
func (m *luaMatch) open(at, p, length int) int {
	m.captures[m.level] = luaCapture{at, length}
	m.level++
	to := m.match(at, p)
	if to < 0 {
		m.level--
	}
	return to
}

// close ends the capture that was begun last.
func (m *luaMatch) close(at, p int) int {
	i := m.level - 1
	for m.captures[i].length != luaOpen {
		i--
	}
	m.captures[i].length = at - m.captures[i].start
	to := m.match(at, p)
	if to < 0 {
		m.captures[i].length = luaOpen
	}
	return to
}

// repeat matches the text of a capture once more.
func (m *luaMatch) repeat(at, n int) int {
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
func (m *luaMatch) balance(at, p int) int {
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
func (m *luaMatch) before(at int) byte {
	if at == 0 {
		return 0
	}
	return m.src[at-1]
}

// byteAt returns a byte, 0 at the end.
func (m *luaMatch) byteAt(at int) byte {
	if at == len(m.src) {
		return 0
	}
	return m.src[at]
}

// single tells whether there is a byte at that is in the class from p to end.
func (m *luaMatch) single(at, p, end int) bool {
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
func (m *luaMatch) inSet(c byte, p, last int) bool {
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
