package backup

import "testing"

func TestLikelyStored(t *testing.T) {
	const gib = 1 << 30
	before := func(plain, stored int64) Manifest {
		return Manifest{RDB: RDB{Size: plain}, Object: Object{Size: stored}}
	}
	for name, tt := range map[string]struct {
		before Manifest
		want   int64
	}{
		"nothing known":     {Manifest{}, 8 * gib},
		"too small to tell": {before(1<<20-1, 10), 8 * gib},
		"as before":         {before(10*gib, 3*gib), 16 * gib * 3 / 10},
		"very well":         {before(10*gib, gib/100), 4 * gib},
		"not at all":        {before(10*gib, 11*gib), 16 * gib},
	} {
		if got := likelyStored(16*gib, tt.before); got/1000 != tt.want/1000 {
			t.Errorf("%s: got %d, want %d", name, got, tt.want)
		}
	}
	if got := likelyStored(0, Manifest{}); got != 0 {
		t.Errorf("nothing: got %d", got)
	}
}
