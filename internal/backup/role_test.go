package backup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestCheckRole(t *testing.T) {
	const replica = "# Replication\r\nrole:slave\r\nmaster_link_status:%s\r\nmaster_last_io_seconds_ago:%d\r\nmaster_sync_in_progress:%d\r\n"
	master := "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
	good := fmt.Sprintf(replica, "up", 10, 0)
	tests := []struct {
		name, info string
		standby    []Role // the others take one, or fail for want
		want       string // "" none
	}{
		{"master", master, []Role{RoleReplica}, ""},
		{"replica", good, []Role{RoleMaster}, ""},
		{"without its master", fmt.Sprintf(replica, "down", -1, 0), []Role{RoleMaster}, "this replica is not connected to its master: its data may be old or incomplete"},
		{"being filled", fmt.Sprintf(replica, "up", 0, 1), []Role{RoleMaster}, "this replica is being filled by its master: its data is incomplete"},
		{"at the limit", fmt.Sprintf(replica, "up", 30, 0), []Role{RoleMaster}, ""},
		{"silence", fmt.Sprintf(replica, "up", 31, 0), []Role{RoleMaster}, "this replica has heard nothing from its master for 31s, backup.max-lag is 30s: its data may be old"},
	}
	for _, tt := range tests {
		for _, role := range Roles() {
			t.Run(tt.name+"/"+string(role), func(t *testing.T) {
				err := checkRole(info.Parse(tt.info), role, defaultMaxLag)
				if slices.Contains(tt.standby, role) {
					if !errors.Is(err, ErrStandby) {
						t.Errorf("%v, want that it stands by", err)
					}
					return
				}
				if tt.want == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				wantError(t, err, status.ReasonMasterDown, tt.want)
			})
		}
	}
}

func TestOnlineReplicas(t *testing.T) {
	const lines = "# Replication\r\nrole:master\r\nconnected_slaves:6\r\n" +
		"slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0\r\n" +
		"slave1:ip=10.0.0.3,port=6379,state=online,offset=14,lag=30\r\n" +
		"slave2:ip=10.0.0.4,port=6379,state=online,offset=1,lag=31\r\n" +
		"slave3:ip=10.0.0.5,port=6379,state=wait_bgsave,offset=0,lag=0\r\n" +
		"slave4:ip=10.0.0.6,port=0,state=online,offset=14,lag=0\r\n" +
		"slave5:ip=10.0.0.7,port=6379,state=online,offset=14,lag=x\r\n" +
		"slave_repl_offset:14\r\nslaves_waiting_psync:0\r\n"
	if n := onlineReplicas(info.Parse(lines), defaultMaxLag); n != 2 {
		t.Errorf("%d replicas, want 2", n)
	}
	if n := onlineReplicas(info.Parse("# Replication\r\nrole:master\r\n"), defaultMaxLag); n != 0 {
		t.Errorf("%d replicas of none", n)
	}
}

// What real servers say of themselves: a pair; a master that stands still; a
// replica whose master is gone.
func TestStanding(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	s, _ := dirStore(t)
	prefer := func(o *SnapshotOptions) { o.Role = RolePreferReplica }
	soon := func(o *SnapshotOptions) { o.MaxLag = 2 * time.Second }
	ofMaster, ofReplica := newTestSnapshotter(t, master, s, prefer, soon), newTestSnapshotter(t, replica, s, prefer, soon)
	eventually := func(of *Snapshotter, check func(standing) bool) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			st, err := of.standing(testContext(t))
			if err != nil || !check(st) {
				return fmt.Errorf("%+v, %w", st, err)
			}
			return nil
		})
	}
	eventually(ofMaster, func(st standing) bool { return st.role == "master" && st.replicas == 1 && st.err == nil })
	eventually(ofReplica, func(st standing) bool { return st.role == "slave" && st.replicas == 0 && st.err == nil })
	mustSnapshot(t, ofMaster)
	mustSnapshot(t, newTestSnapshotter(t, replica, s, prefer)) // a master may be held up for two seconds

	says := func(text string) func(standing) bool {
		return func(st standing) bool {
			return status.ReasonOf(st.err) == status.ReasonMasterDown && strings.Contains(st.err.Error(), text)
		}
	}
	master.Signal(t, syscall.SIGSTOP)
	eventually(ofReplica, says("this replica has heard nothing from its master for "))
	_, err := ofReplica.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonMasterDown, "has heard nothing from its master")
	master.Signal(t, syscall.SIGCONT)
	eventually(ofReplica, func(st standing) bool { return st.err == nil })
	replica.Signal(t, syscall.SIGSTOP)
	eventually(ofMaster, func(st standing) bool { return st.replicas == 0 && st.err == nil })
	replica.Signal(t, syscall.SIGCONT)
	eventually(ofMaster, func(st standing) bool { return st.replicas == 1 })
	master.Kill(t)
	eventually(ofReplica, says("this replica is not connected to its master"))
}
