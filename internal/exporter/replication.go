package exporter

import "strings"

// replication is the collector of INFO replication, as a replica and as a
// primary. Its plain numbers are in the table of fields.
type replication struct {
	infoOnly
	slaveInfo                        *family
	linkUp, lastIO, syncing, replica *family
	slaveOffset, slaveLag            *family
}

func newReplication(c *catalog) *replication {
	const host, port = "master_host", "master_port"
	const ip, sport, state = "slave_ip", "slave_port", "slave_state"
	return &replication{
		slaveInfo: c.add(typeGauge, "slave_info", "INFO replication",
			"1 on a replica, with its primary.", host, port, "read_only"),
		linkUp: c.add(typeGauge, "master_link_up", "INFO master_link_status",
			"1 when the replica's link to its primary is up.", host, port),
		lastIO: c.add(typeGauge, "master_last_io_seconds_ago", "INFO master_last_io_seconds_ago",
			"Seconds since the primary was last heard; -1 while the link is down.", host, port),
		syncing: c.add(typeGauge, "master_sync_in_progress", "INFO master_sync_in_progress",
			"1 while the primary sends the whole data set.", host, port),
		replica: c.add(typeGauge, "slave_repl_offset", "INFO slave_repl_offset",
			"Replication offset the replica has reached, in bytes.", host, port),
		slaveOffset: c.add(typeGauge, "connected_slave_offset_bytes", "INFO slaveN",
			"Replication offset that a replica has confirmed, in bytes.", ip, sport, state),
		slaveLag: c.add(typeGauge, "connected_slave_lag_seconds", "INFO slaveN",
			"Seconds since a replica last confirmed its offset.", ip, sport, state),
	}
}

func (c *replication) name() string { return "replication" }

func (c *replication) collect(r *reading, _ []any, out *sink) error {
	// KeyDB can have several primaries: master_host …, master_1_host ….
	host, port := "", ""
	for name, value := range r.info.Section("replication") {
		switch suffix, ok := masterField(name); {
		case ok && suffix == "host":
			host = value
		case ok && suffix == "port":
			port = value
		case ok && suffix == "link_status":
			out.flag(c.linkUp, value == "up", host, port)
		case ok && suffix == "last_io_seconds_ago":
			c.number(c.lastIO, value, out, host, port)
		case ok && suffix == "sync_in_progress":
			c.number(c.syncing, value, out, host, port)
		case name == "slave_repl_offset":
			c.number(c.replica, value, out, host, port)
		case strings.HasPrefix(name, "slave") && isDigits(name[len("slave"):]):
			c.slave(value, out)
		}
	}
	if r.info.Get("role") == "slave" {
		out.set(c.slaveInfo, 1, r.info.Get("master_host"), r.info.Get("master_port"), r.info.Get("slave_read_only"))
	}
	return nil
}

func (c *replication) number(f *family, value string, out *sink, labels ...string) {
	if v, ok := number(value); ok {
		out.set(f, v, labels...)
	}
}

// slave reads "ip=10.0.0.1,port=6379,state=online,offset=1751844676,lag=0".
func (c *replication) slave(line string, out *sink) {
	var ip, port, state, offset, lag string
	for key, value := range pairs(line) {
		switch key {
		case "ip":
			ip = value
		case "port":
			port = value
		case "state":
			state = value
		case "offset":
			offset = value
		case "lag":
			lag = value
		}
	}
	c.number(c.slaveOffset, offset, out, ip, port, state)
	c.number(c.slaveLag, lag, out, ip, port, state)
}

// masterField returns what follows "master_" or "master_N_" in a field's name.
func masterField(name string) (suffix string, ok bool) {
	suffix, ok = strings.CutPrefix(name, "master_")
	if !ok {
		return "", false
	}
	if n, rest, found := strings.Cut(suffix, "_"); found && isDigits(n) {
		suffix = rest
	}
	return suffix, true
}
