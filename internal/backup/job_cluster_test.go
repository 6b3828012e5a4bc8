package backup

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// lateServer is a node of a cluster that does not answer at first: a native sidecar
// starts before the server.
type lateServer struct {
	noServer

	nodes string // its CLUSTER NODES
	up    atomic.Bool
}

func (s *lateServer) Do(_ context.Context, args ...string) (any, error) {
	switch command := strings.Join(args, " "); {
	case !s.up.Load():
		return nil, status.WithReason(status.ReasonUnreachable, errors.New("connection refused"))
	case command == "INFO cluster":
		return "cluster_enabled:1\r\n", nil
	case command == "CLUSTER NODES":
		return s.nodes, nil
	default:
		return nil, errors.New("not expected: " + command)
	}
}

const secondOfThree = `1111111111111111111111111111111111111111 10.0.0.1:6379@16379 master - 0 1 1 connected 0-5460
2222222222222222222222222222222222222222 10.0.0.2:6379@16379 myself,master - 0 1 2 connected 5461-10922
3333333333333333333333333333333333333333 10.0.0.3:6379@16379 master - 0 1 3 connected 10923-16383
`

// What is in the store of a shard is known as soon as its server answers, and
// nothing is concluded before: not that there is no snapshot, nor that none was
// missed.
func TestJobOfAShardWhoseServerStartsLate(t *testing.T) {
	const hour = time.Hour
	tests := []struct {
		name     string
		schedule string
		onStart  time.Duration
		age      time.Duration // of the newest snapshot
		silent   time.Duration // how long the server does not answer
		want     []time.Duration
	}{
		{"a recent one is no reason for another", "0 23 * * *", 2 * hour, hour, 1500 * time.Millisecond, nil},
		{"an old one is", "0 23 * * *", 2 * hour, 3 * hour, 1500 * time.Millisecond, []time.Duration{startDelay}},
		{"a time that was missed is made up for", "0 23 * * *", 0, 3 * hour, 1500 * time.Millisecond, []time.Duration{startDelay}},
		{"@every goes on from the last", "@every 3h", 0, 2 * hour, 1500 * time.Millisecond, []time.Duration{hour}},
		{"a server that is long in coming", "@every 3h", 0, 2 * hour, 5 * time.Minute, []time.Duration{hour}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := newTestJob(t, test.schedule, func(o *Options) { o.OnStart = test.onStart })
				server := &lateServer{nodes: secondOfThree}
				j.redis = server
				base := newTestCatalogue(t, j.store)
				var mine Manifest
				for shard, slots := range map[string]SlotRange{"00000": {0, 5460}, "05461": {5461, 10922}} {
					m := testManifest(j.start.Add(-test.age), 5)
					m.Slots = []SlotRange{slots}
					putSnapshot(t, base.at(shard), m)
					if shard == "05461" {
						mine = m
					}
				}
				j.run()
				if r := j.report(); r.State != status.Starting {
					t.Errorf("before the server answers: %s %q", r.State, r.Message)
				}
				j.at(test.silent)
				server.up.Store(true)
				j.at(2*test.silent + time.Second)
				j.wantState(status.OK, "", "1 snapshots, the last is "+mine.ID)
				if got := testenv.Metrics(t, NewMetrics(j.Job))["redis_sidecar_backup_last_success_timestamp_seconds"]; int64(got) != mine.CreatedAt.Unix() {
					t.Errorf("last success %v, want %d", got, mine.CreatedAt.Unix())
				}
				j.at(2 * hour)
				got := j.begun()
				if len(got) != len(test.want) {
					t.Fatalf("snapshots were begun at %v, want %v", got, test.want)
				}
				for i, at := range got { // those that a start brings come by chance
					if at < test.want[i] || at > test.want[i]+20*time.Second {
						t.Errorf("a snapshot was begun at %v, want %v", at, test.want[i])
					}
				}
			})
		})
	}
}

// A server that stays away does not keep the state of the store from being told.
func TestJobOfAShardWhoseServerStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newTestJob(t, "0 23 * * *", nil)
		var away atomic.Bool
		var looks atomic.Int32
		j.store.before = func(string, string) error {
			looks.Add(1)
			if away.Load() {
				return status.WithReason(status.ReasonStoreUnreachable, errors.New("connection refused"))
			}
			return nil
		}
		j.redis = &lateServer{}
		m := testManifest(j.start.Add(-time.Hour), 5)
		m.Slots = []SlotRange{{0, 5460}}
		putSnapshot(t, newTestCatalogue(t, j.store).at("00000"), m)
		looks.Store(0)
		j.run()
		j.at(time.Minute)
		j.wantState(status.OK, "", "has not said yet which shard")
		away.Store(true)
		j.at(15 * time.Minute)
		j.wantState(status.Failing, status.ReasonStoreUnreachable, "connection refused")
		away.Store(false)
		j.at(time.Hour)
		j.wantState(status.OK, "", "has not said yet which shard")
		if n := looks.Load(); n > 40 {
			t.Errorf("the store was asked %d times in an hour", n)
		}
		j.wantTaken()
	})
}
