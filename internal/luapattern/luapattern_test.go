package luapattern_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/luapattern"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// patterns are patterns of every kind.
var patterns = []string{
	"", "a", "abc", "^", "$", "^$", "^a", "a$", "^(.*)_[^_]+$", "^(%a+):", "(%d+)", "^([^:]*):([^:]*)", "(.-):", "(.*):", "(.+):", "(a?)b",
	"()", "()a()", "(()a)", "%%", "%.", ".", "a.c", "[abc]", "[^abc]", "[a-f%d]+", "[]]", "[^]]", "[%]]+", "[a%-z]+", "[-a]", "[a-]", "[%a_]+",
	"%b()", "%b[](.*)", "%bxx", "(%w+)%1", "(a)(b)%2%1", "((a)b)%1%2", "%f[%w](%w+)", "%f[%W]", "%f[a]a", "(%a)(%d)", "%x+", "%X+", "%u%l+", "%U",
	"%L", "%s", "%S+", "%p+", "%P", "%c", "%C", "%D+", "%A+", "%W+", "%z", "%Z+", "a*", "a+", "a-", "a-b", "a-$", "a?$", "(a*(.)%w(%s*))", "^^", "$a",
	"a^", "a$b", "(a$)", "*", "+a", "^*", "-", "?", "a**", "[a", "%", "(", ")", "(()", "a%", "[%", "[]", "[^]", "%b", "%ba", "%f", "%fa", "%1", "%0",
	"(%1)", "(a)%2", "(a", "a)", "[a-", "[%a-z]", "[a-%%]", "[z-a]", "%g", "%h", "%-", "\xe9", "[\x80-\xff]+", "%w+", "((((((((((a))))))))))",
}

var texts = []string{
	"", "a", "b", "ab", "ba", "abc", "aaa", "aab", "user:12:name", "user_12_profile", "cache:page:/index.html", "x(y(z))w", "a[b]c", "abab", "abba", "aba",
	"Hello World", "a-b", "a.c", "a%b", "]", "[", "^a", "a^", "$a", "a$b", "*", "+a", "-", "\x00", "a\x00b", "\xe9t\xe9", "  x ", "1a2b3c", "ABCdef",
	"xyyx", "__a__", "a_b_c_d", "%g", "gh", strings.Repeat("ab", 50),
}

// What Lua in Redis answers, the pattern matcher answers.
func TestFind(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	for _, pattern := range patterns {
		var asks [][]string
		for _, text := range texts {
			asks = append(asks, []string{"EVAL", luaFind, "0", text, pattern})
		}
		replies, err := c.Pipeline(t.Context(), asks...)
		if err != nil {
			t.Fatal(err)
		}
		p, wrong := luapattern.Compile(pattern)
		failed := false
		for i, reply := range replies {
			if _, isError := reply.(error); isError {
				failed = true
				continue
			}
			if wrong != nil {
				continue
			}
			captured, ok, err := p.Find(texts[i])
			got := fmt.Sprintf("%v|%s", ok, captured)
			if got != reply || err != nil {
				t.Errorf("%q in %q: %s, %v; Redis says %s", pattern, texts[i], got, err, reply)
			}
		}
		// A mistake that no text leads to is not found by Lua; the opposite must not be.
		if failed && wrong == nil {
			t.Errorf("%q is wrong for Redis", pattern)
		}
		if wrong != nil && !failed {
			t.Errorf("%q is wrong (%v), and right for Redis", pattern, wrong)
		}
	}
}

// luaFind is string.find with all captures joined.
const luaFind = `local r = {string.find(ARGV[1], ARGV[2])}
if r[1] == nil then return "false|" end
local s = ""
for i = 3, #r do s = s .. tostring(r[i]) end
return "true|" .. s`

func TestTakesLong(t *testing.T) {
	p, err := luapattern.Compile(".-.-.-.-.-.-x")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := p.Find(strings.Repeat("a", 1000)); ok || err != luapattern.ErrSteps { //nolint:errorlint // it is not wrapped
		t.Errorf("found %v, %v", ok, err)
	}
	if _, err := luapattern.Compile(strings.Repeat("(a)", luapattern.MaxCaptures+1)); err == nil {
		t.Error("too many captures were not noticed")
	}
}

// FuzzFind: a pattern that was accepted ends on every text, and what it
// captures are parts of the text or positions.
func FuzzFind(f *testing.F) {
	for i, pattern := range patterns {
		f.Add(pattern, texts[i%len(texts)])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		p, err := luapattern.Compile(pattern)
		if err != nil {
			return
		}
		captured, ok, err := p.Find(text)
		if !ok && captured != "" {
			t.Errorf("captured %q without a match", captured)
		}
		if err != nil && len(text) < 8 && len(pattern) < 8 {
			t.Errorf("%v", err)
		}
		if len(captured) > luapattern.MaxCaptures*(len(text)+len(strconv.Itoa(len(text)+1))) {
			t.Errorf("captured %d bytes of %d", len(captured), len(text))
		}
	})
}

func BenchmarkFind(b *testing.B) {
	p, err := luapattern.Compile("^(.*)_[^_]+$")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, _ := p.Find("user_12345_profile"); !ok {
			b.Fatal("not found")
		}
	}
}
