package config

import "strings"

// splitWords splits a line as redis-server does (sdssplitargs). Blanks separate
// words; a quote may open inside a word, and what follows the closing quote must
// be a blank or the end. In "..." a backslash escapes, with \n \r \t \b \a and
// \xHH; in '...' only \' does; outside quotes it is an ordinary byte.
//
// comment is the index of the first word that begins with an unquoted '#', or
// -1: redis.conf has no trailing comments, so that word is part of the value.
// ok is false when quotes are not balanced.
func splitWords(line string) (words []string, comment int, ok bool) {
	comment = -1
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return words, comment, true
		}
		if line[i] == '#' && comment < 0 {
			comment = len(words)
		}
		word, next, balanced := nextWord(line, i)
		if !balanced {
			return nil, -1, false
		}
		words = append(words, word)
		i = next
	}
}

// nextWord reads the word that begins at i and returns the index behind it.
func nextWord(line string, i int) (word string, next int, ok bool) {
	var b strings.Builder
	for i < len(line) {
		switch c := line[i]; c {
		// Not every blank that separates words ends one: \v and \f do not.
		case ' ', '\n', '\r', '\t':
			return b.String(), i, true
		case '"', '\'':
			if i, ok = quoted(&b, line, i+1, c); !ok {
				return "", 0, false
			}
			return b.String(), i, i == len(line) || isSpace(line[i])
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), i, true
}

// quoted reads up to the closing quote and returns the index behind it.
func quoted(b *strings.Builder, line string, i int, quote byte) (next int, ok bool) {
	for i < len(line) {
		c := line[i]
		if c == quote {
			return i + 1, true
		}
		if c != '\\' || i+1 == len(line) || quote == '\'' && line[i+1] != '\'' {
			b.WriteByte(c)
			i++
			continue
		}
		if line[i+1] == 'x' && i+3 < len(line) && isHex(line[i+2]) && isHex(line[i+3]) {
			b.WriteByte(unhex(line[i+2])<<4 | unhex(line[i+3]))
			i += 4
			continue
		}
		b.WriteByte(unescape(line[i+1]))
		i += 2
	}
	return 0, false
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

// quoteWord returns a word in the form in which splitWords reads it back.
func quoteWord(w string) string {
	plain := w != "" && w[0] != '#'
	for i := 0; i < len(w) && plain; i++ {
		plain = w[i] > ' ' && w[i] < 0x7f && w[i] != '"' && w[i] != '\''
	}
	if plain {
		return w
	}
	const digits = "0123456789abcdef"
	b := make([]byte, 0, len(w)+2)
	b = append(b, '"')
	for i := range len(w) {
		switch c := w[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// isSpace is isspace(3) in the C locale.
func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}

// lower is tolower(3) over bytes in the C locale: only A to Z change.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}
