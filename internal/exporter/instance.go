package exporter

import "time"

// instance is the collector of what the server is and since when.
type instance struct {
	infoOnly
	info, start, role, changes *family

	// What the server was at the last look, whatever its connection or process.
	lastRole    string
	roleChanges float64

	// The last answer, for servers that do not tell their own time.
	runID   string
	started int64
}

func newInstance(c *catalog) *instance {
	return &instance{
		info: c.add(typeGauge, "instance_info", "INFO server, memory, replication",
			"1, with what the server is; the valkey_ labels are there on Valkey only.",
			"master_replid", "maxmemory_policy", "os", "process_id", "redis_build_id", "redis_mode", "redis_version",
			"role", "run_id", "tcp_port", "valkey_release_stage", "valkey_version"),
		start: c.add(typeGauge, "start_time_seconds", "INFO server_time_usec - uptime_in_seconds",
			"Unix time at which the server started."),
		role: c.add(typeGauge, "instance_role", "INFO role",
			"1 for the role that the server has, 0 for the others.", "role"),
		changes: c.add(typeCounter, "instance_role_changes_total", "INFO role",
			"Changes of the server's role that were seen since the sidecar started."),
	}
}

func (i *instance) name() string { return "instance" }

func (i *instance) collect(r *reading, _ []any, out *sink) error {
	in := r.info
	labels := []string{in.Get("master_replid"), in.Get("maxmemory_policy"), in.Get("os"), in.Get("process_id"),
		in.Get("redis_build_id"), in.Mode(), in.Get("redis_version"), in.Get("role"), in.Get("run_id"),
		in.Get("tcp_port")}
	if v, ok := in.Lookup("valkey_version"); ok {
		labels = append(labels, in.Get("valkey_release_stage"), v)
	}
	out.set(i.info, 1, labels...)

	role := knownRole(r)
	for _, name := range roles() {
		out.flag(i.role, name == role, name)
	}
	if role != "" {
		if i.lastRole != "" && role != i.lastRole {
			i.roleChanges++
		}
		i.lastRole = role
	}
	out.set(i.changes, i.roleChanges)

	if uptime, ok := in.Int("uptime_in_seconds"); ok {
		out.set(i.start, float64(i.startTime(r, uptime)))
	}
	return nil
}

// startTime returns the same second for the whole life of a server, so that
// changes() counts restarts and nothing else. Both fields come from one clock
// reading inside the server, so their difference is exactly its start. A server
// before 6.2 gives no time of its own: then the first answer stays as long as
// later ones are within the rounding of its uptime.
func (i *instance) startTime(r *reading, uptime int64) int64 {
	if now, ok := r.info.Int("server_time_usec"); ok {
		return now/int64(time.Second/time.Microsecond) - uptime
	}
	started := r.at.Unix() - uptime
	if i.runID == r.server.runID && started-i.started <= 2 && i.started-started <= 2 {
		return i.started
	}
	i.runID, i.started = r.server.runID, started
	return started
}

// roles are the values of the label role.
func roles() []string { return []string{"master", "sentinel", "slave"} }

// knownRole returns one of roles, or "" when the server says nothing of the kind.
func knownRole(r *reading) string {
	if r.server.sentinel {
		return "sentinel"
	}
	switch r.info.Get("role") {
	case "master":
		return "master"
	case "slave", "active-replica": // the latter of KeyDB, which has primaries too
		return "slave"
	}
	return ""
}
