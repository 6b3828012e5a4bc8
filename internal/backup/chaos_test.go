package backup

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// markingRedis writes the truth into the data: the key "round" has the round's
// number at the moment of the fork, and -1 right after it.
type markingRedis struct {
	*redis.Client
	round int
}

func (m *markingRedis) Pipeline(ctx context.Context, cmds ...[]string) ([]any, error) {
	if len(cmds) < 2 || cmds[1][0] != "BGSAVE" {
		return m.Client.Pipeline(ctx, cmds...)
	}
	marked := [][]string{
		{"SET", "round", strconv.Itoa(m.round)},
		cmds[0], cmds[1],
		{"SET", "round", "-1"},
	}
	replies, err := m.Client.Pipeline(ctx, append(marked, cmds[2:]...)...)
	if err != nil {
		return nil, err
	}
	return append(replies[1:3:3], replies[4:]...), nil
}

// Others save, flush and kill at random moments. What is published is always the
// data of the moment asked for; what cannot be had is refused.
func TestChaos(t *testing.T) {
	const rounds = 30
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	r := testenv.StartRedis(t, "--save", "3600 1", "--stop-writes-on-bgsave-error", "no")
	s, _ := dirStore(t)
	marking := &markingRedis{Client: r.Client(t)}
	sn := newSnapshotterFor(t, marking, s, func(o *SnapshotOptions) { o.Log = nil })
	other := r.Client(t)

	ok, refused, wrong := 0, map[status.Reason]int{}, 0
	for round := range rounds {
		r.Fill(t, "key", 300, 100)
		slowSave(t, r, []int{0, 0, 20, 100, 500}[random.IntN(5)])
		ctx, cancel := context.WithCancel(testContext(t))
		var adversary sync.WaitGroup
		actions := make([]string, random.IntN(4))
		delays := make([]time.Duration, len(actions))
		for i := range actions {
			actions[i] = []string{"FLUSHALL", "BGSAVE", "SAVE", "BGREWRITEAOF"}[random.IntN(4)]
			delays[i] = time.Duration(random.IntN(40_000)) * time.Microsecond
		}
		adversary.Go(func() {
			for i, action := range actions {
				if sleep(ctx, delays[i]) != nil {
					return
				}
				_, _ = other.Do(ctx, action) // refused when it is not its time
			}
		})
		marking.round = round
		m, err := sn.Snapshot(ctx, nil)
		cancel()
		adversary.Wait()
		if err != nil {
			refused[status.ReasonOf(err)]++
			continue
		}
		ok++
		if got := roundOf(t, sn.Catalogue(), m); got != strconv.Itoa(round) {
			wrong++
			t.Errorf("round %d: the snapshot is of round %s, after %v %v", round, got, actions, delays)
		}
	}
	t.Logf("%d rounds: %d snapshots, %d of them false, refused %v", rounds, ok, wrong, refused)
	if ok == 0 {
		t.Error("no snapshot at all")
	}
	for reason := range refused {
		if reason != status.ReasonSave {
			t.Errorf("refused for %s", reason)
		}
	}
	if ids, err := sn.Catalogue().IDs(testContext(t)); err != nil || len(ids) != ok {
		t.Errorf("%d snapshots in the catalogue, %v, want %d", len(ids), err, ok)
	}
}
