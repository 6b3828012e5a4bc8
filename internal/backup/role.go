package backup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Role says of which server snapshots are taken.
type Role string

// The roles. A Snapshotter beside a server of another role takes none and
// returns ErrStandby. With RolePreferReplica every server will do; it is the Job
// that lets replicas go first.
const (
	RoleAny           Role = "any"
	RoleMaster        Role = "master"
	RoleReplica       Role = "replica"
	RolePreferReplica Role = "prefer-replica"
)

// Roles lists them.
func Roles() []Role { return []Role{RolePreferReplica, RoleMaster, RoleReplica, RoleAny} }

// ErrStandby is wrapped by the error for a server that has not the wanted role:
// nothing is wrong, another pod takes the snapshots.
var ErrStandby = errors.New("no snapshot is taken of this server")

// defaultMaxLag is longer than the longest silence of an idle master: it sends a
// PING every repl-ping-replica-period, 10 s.
const defaultMaxLag = 30 * time.Second

// checkRole decides by its INFO whether a server is one to take snapshots of.
//
// How many bytes a replica is behind, it cannot know: its INFO has no offset of
// the master. What it has is whether the link is up, whether a full resync runs,
// and how long ago anything came from the master, which is the lag here.
func checkRole(in info.Info, want Role, maxLag time.Duration) error {
	role := in.Get("role")
	switch {
	case want == RoleMaster && role != "master":
		return fmt.Errorf("%w: it is a replica, snapshots are taken of the master", ErrStandby)
	case want == RoleReplica && role != "slave":
		return fmt.Errorf("%w: it is a master, snapshots are taken of replicas", ErrStandby)
	case role != "slave":
		return nil
	}
	// A replica without its master may have old data, part of it or none. Such a
	// snapshot would become the latest.
	const hint = "mend the replication first, or take snapshots of the master: backup.role"
	switch lag := replicaLag(in); {
	case in.Get("master_link_status") != "up":
		return status.WithHint(status.ReasonMasterDown, hint, errors.New("this replica is not connected to its master: its data may be old or incomplete"))
	case in.Get("master_sync_in_progress") == "1":
		return status.WithHint(status.ReasonMasterDown, hint, errors.New("this replica is being filled by its master: its data is incomplete"))
	case maxLag > 0 && lag > maxLag:
		return status.WithHint(status.ReasonMasterDown, hint, fmt.Errorf("this replica has heard nothing from its master for %s, backup.max-lag is %s: its data may be old", lag, maxLag))
	}
	return nil
}

// replicaLag is how long ago a replica heard from its master. A master that has
// nothing to say sends a PING every repl-ping-replica-period.
func replicaLag(in info.Info) time.Duration {
	n, _ := in.Int("master_last_io_seconds_ago")
	return time.Duration(n) * time.Second
}

// onlineReplicas counts those that a master may leave the snapshot to: connected,
// in step, and servers that clients could be sent to. What only reads the stream,
// such as redis-cli --rdb, names no port.
func onlineReplicas(in info.Info, maxLag time.Duration) int {
	n := 0
	for name, value := range in.Section("replication") {
		if rest, ok := strings.CutPrefix(name, "slave"); !ok || strings.Trim(rest, "0123456789") != "" {
			continue
		}
		fields := map[string]string{}
		for pair := range strings.SplitSeq(value, ",") {
			k, v, _ := strings.Cut(pair, "=")
			fields[k] = v
		}
		lag, err := strconv.Atoi(fields["lag"]) // since its last acknowledgement, which comes every second
		if fields["state"] == "online" && fields["port"] != "0" && err == nil && time.Duration(lag)*time.Second <= maxLag {
			n++
		}
	}
	return n
}

// standing is what the server is like just now.
type standing struct {
	role     string // as in INFO: master, slave
	replicas int    // of a master: those that may take the snapshot
	err      error  // why no snapshot is taken of it; nil when one may be
}

// standing asks the server. The error is of the question.
func (s *Snapshotter) standing(ctx context.Context) (standing, error) {
	in, err := askInfo(ctx, s.redis, "replication")
	if err != nil {
		return standing{}, err
	}
	return standing{
		role:     in.Get("role"),
		replicas: onlineReplicas(in, s.opts.MaxLag),
		err:      checkRole(in, s.opts.Role, s.opts.MaxLag),
	}, nil
}
