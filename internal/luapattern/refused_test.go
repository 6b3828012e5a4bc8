package luapattern_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/luapattern"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// Whatever Redis' own Lua refuses as a pattern is refused. (Lua finds
// a mistake only when it gets that far in a text, so more is refused here.)
func TestRefused(t *testing.T) {
	srv := testenv.StartRedis(t)
	alphabet := []string{"%", "[", "]", "(", ")", "^", "$", "a", "b", "-", ".", "*", "%b", "%f", "%1", "%2", "()", "[^", "%]", ","}
	r := rand.New(rand.NewPCG(1, 2))
	var patterns []string
	for range 3000 {
		p := ""
		for range 1 + r.IntN(6) {
			p += alphabet[r.IntN(len(alphabet))]
		}
		patterns = append(patterns, p)
	}
	const script = `local bad = {}
for i, p in ipairs(ARGV) do
  for _, text in ipairs({"", " ", "a", "ab", "abab", "aab,b-.]"}) do
    local good = pcall(string.find, text, p)
    if not good then
      bad[#bad+1] = p
      break
    end -- it
  end -- of texts
end -- of patterns
return bad`
	reply := srv.Do(t, append([]string{"EVAL", script, "0"}, patterns...)...).([]any)
	if len(reply) < 500 {
		t.Errorf("Lua refuses %d of %d: the patterns are too tame", len(reply), len(patterns))
	}
	refused := make(map[string]bool)
	for _, p := range reply {
		refused[p.(string)] = true
	}
	accepted := 0
	for _, p := range slices.Compact(slices.Sorted(slices.Values(patterns))) {
		_, err := luapattern.Compile(p)
		if err == nil && refused[p] {
			t.Errorf("%s is accepted, and Lua refuses it", p)
		}
		if err == nil {
			accepted++
		}
	}
	t.Logf("%d refused by Lua, %d accepted here", len(refused), accepted)
	if accepted < 300 {
		t.Errorf("only %d of %d are accepted here", accepted, len(patterns))
	}
}
