// Package luapattern finds patterns of Lua in texts, as string.find does in the
// Lua 5.1 that Redis carries (lstrlib.c there). The manual of Lua 5.1, section
// 5.4.1, describes them; %f[set], which it leaves out, is known too. Unlike
// Redis it checks a pattern as a whole before it is used, and bounds the work.
package luapattern

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pattern is a pattern that [Compile] has checked. The zero value is the empty
// pattern, which is found everywhere.
type Pattern struct {
	text    string
	special bool // it has some of specials
}

// specials are the characters that make a text a pattern, for string.find. A
// closing parenthesis alone does not.
const specials = "^$*+?.([%-"

const (
	// MaxCaptures is how many captures a pattern may have, as in Lua.
	MaxCaptures = 32
	// maxSteps bounds the work for one text: a pattern such as ".-.-.-.-x" takes
	// a time that grows with a power of the text's length.
	maxSteps = 200_000
)

// ErrSteps is what [Pattern.Find] returns when a text would take too long.
var ErrSteps = errors.New("it takes too long: use fewer of * + -")

// Compile checks a pattern as a whole. Lua itself finds a mistake only when a
// text leads to it. Errors name the place, counted in bytes from 1.
func Compile(text string) (Pattern, error) {
	p := Pattern{text, strings.ContainsAny(text, specials)}
	if !p.special {
		return p, nil
	}
	type opened struct{ capture, at int }
	var open []opened // captures whose end is still to come
	captures := 0
	for i := 0; i < len(text); {
		next := byte(0)
		if i+1 < len(text) {
			next = text[i+1]
		}
		switch c := text[i]; {
		case c == '(':
			if captures++; captures > MaxCaptures {
				return Pattern{}, fmt.Errorf("has more than %d captures", MaxCaptures)
			}
			open = append(open, opened{captures, i})
			i++
			continue
		case c == ')':
			if len(open) == 0 {
				return Pattern{}, fmt.Errorf("the ) at position %d has no (", i+1)
			}
			open = open[:len(open)-1]
			i++
			continue
		case c == '%' && next == 'b':
			if i+3 >= len(text) {
				return Pattern{}, errors.New("%b needs two characters after it")
			}
			i += 4
			continue
		case c == '%' && next == 'f':
			if i+2 >= len(text) || text[i+2] != '[' {
				return Pattern{}, errors.New("%f needs a set in [] after it")
			}
			i += 2
		case c == '%' && isDigit(next):
			n := int(next - '0')
			if n == 0 || n > captures || slices.ContainsFunc(open, func(o opened) bool { return o.capture == n }) {
				return Pattern{}, fmt.Errorf("%%%c: there is no such finished capture", next)
			}
			i += 2
			continue
		}
		end, err := p.classEnd(i)
		if err != nil {
			return Pattern{}, err
		}
		i = end
	}
	if len(open) > 0 {
		return Pattern{}, fmt.Errorf("the ( at position %d has no )", open[len(open)-1].at+1)
	}
	return p, nil
}

// String returns the text that was compiled.
func (p Pattern) String() string { return p.text }

// Plain tells whether nothing in the text has a meaning of its own: it is found
// where it stands as it is.
func (p Pattern) Plain() bool { return !p.special }

// classEnd returns where the single-character class ends that begins at i.
func (p Pattern) classEnd(i int) (int, error) {
	begin := i
	i++
	switch p.text[begin] {
	case '%':
		if i == len(p.text) {
			return 0, errors.New("ends with %")
		}
		return i + 1, nil
	case '[':
		if i < len(p.text) && p.text[i] == '^' {
			i++
		}
		for first := true; first || i >= len(p.text) || p.text[i] != ']'; first = false {
			if i >= len(p.text) {
				return 0, fmt.Errorf("the [ at position %d has no ]", begin+1)
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
