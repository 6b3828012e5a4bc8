package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want any
	}{
		{"+OK\r\n", "OK"},
		{":-12\r\n", int64(-12)},
		{"$5\r\na\r\nbc\r\n", "a\r\nbc"},
		{"$0\r\n\r\n", ""},
		{"$-1\r\n", nil},
		{"*-1\r\n", nil},
		{"*0\r\n", []any{}},
		{"*3\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n+x\r\n", []any{int64(1), []any{"a", nil}, "x"}},
	} {
		got, err := decode([]byte(c.raw))
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("decode %q: %v\n%s", c.raw, err, diff)
		}
	}
	got, err := decode([]byte("*1\r\n-ERR in here\r\n"))
	if list, ok := got.([]any); err != nil || !ok || len(list) != 1 || fmt.Sprint(list[0]) != "ERR in here" {
		t.Errorf("an error in an array: %v, %v", got, err)
	}
	for _, raw := range []string{"", "\r\n", "+OK", "+OK\n", ":x\r\n", "$3\r\nab\r\n", "$x\r\n", "*2\r\n:1\r\n", "*99999999999\r\n", "*-\r\n", "?\r\n", "+a\r\n+b\r\n",
		strings.Repeat("*1\r\n", maxReplyDepth+2) + ":1\r\n"} {
		if v, err := decode([]byte(raw)); err == nil {
			t.Errorf("decode %.40q gave %v", raw, v)
		}
	}
}

func TestGuard(t *testing.T) {
	const limit = 1 << 20
	nested := func(n int) string { return strings.Repeat("*1\r\n", n) + ":1\r\n" }
	for _, c := range []struct {
		name, sent string
		want       error
	}{
		{"all kinds, one after the other", "+OK\r\n-ERR x\r\n:1\r\n$3\r\na\nb\r\n$-1\r\n*-1\r\n*2\r\n$0\r\n\r\n*0\r\n%1\r\n+k\r\n+v\r\n_\r\n,1.5\r\n#t\r\n(1\r\n=5\r\ntxt:a\r\n", nil},
		{"what looks like a length inside a string", "$14\r\n*9999999999999\r\n:1\r\n", nil},
		{"arrays one after the other do not add up", strings.Repeat("*3\r\n:1\r\n:2\r\n:3\r\n", maxReplyElements), nil},
		{"as deep as is allowed", nested(maxReplyDepth) + nested(maxReplyDepth), nil},
		{"too deep", nested(maxReplyDepth + 1), errReplyNesting},
		{"attributes belong to what follows", "|1\r\n+k\r\n+v\r\n+OK\r\n" + nested(maxReplyDepth), nil},
		{"a string beyond the limit", "$1048577\r\n", errReplyLimit},
		{"a length of many digits", "$99999999999999999999\r\n", errNotRESP},
		{"an array beyond the limit", "*262145\r\n", errReplyArray},
		{"arrays that are beyond it together", "*2\r\n*262143\r\n", errReplyArray},
		{"a map counts twice", "%131073\r\n", errReplyArray},
		{"a line without end", "+" + strings.Repeat("a", maxReplyLine+1), errReplyLimit},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n", errNotRESP},
		{"a line that ends without a carriage return", "+a\n!\r\n", errNotRESP},
		{"a carriage return in a line", "+a\rb\r\n", nil},
		{"no number", "*x\r\n", errNotRESP},
		{"a sign in a number", "$1-\r\n", errNotRESP},
	} {
		for _, step := range []int{len(c.sent), 1, 3} {
			t.Run(fmt.Sprintf("%s, %d bytes at a time", c.name, step), func(t *testing.T) {
				g := guard{limit: limit}
				var err error
				for rest := c.sent; rest != "" && err == nil; {
					n := min(step, len(rest))
					err = g.check([]byte(rest[:n]))
					rest = rest[n:]
				}
				if !errors.Is(err, c.want) || (err != nil) != (c.want != nil) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if c.want == nil && g.depth != 0 {
					t.Errorf("%d arrays are still open at the end", g.depth)
				}
			})
		}
	}
}

// Whatever the guard lets through, decode neither crashes on nor keeps more of
// than a few times the bytes.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "*2\r\n$1\r\na\r\n:1\r\n", "*1\r\n*1\r\n$-1\r\n", "+a\nb\r\n", "$5\r\nhello\r\n", "-ERR x\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		g := guard{limit: 1 << 16}
		if g.check(raw) != nil {
			return
		}
		whole := g.depth == 0 && g.skip == 0 && g.line == 0
		v, err := decode(raw)
		if err == nil && !whole {
			t.Errorf("decode took %q for whole: %v", raw, v)
		}
	})
}
