package exporter

import (
	"strconv"
	"strings"
)

// replication is the collector of INFO replication, as a replica and as a
// primary. Its plain numbers are in the table of fields.
type replication struct {
	infoOnly
	slaveInfo                            *family
	linkUp, lastIO, syncing, replica     *family
	slaveOffset, slaveLag, slaveLagBytes *family

	readOffset, downSince                           *family
	syncTotal, syncRead, syncLeft, syncPart, syncIO *family
	failover                                        *family
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
		slaveLagBytes: c.add(typeGauge, "connected_slave_lag_bytes", "INFO slaveN, master_repl_offset",
			"Bytes of the replication stream that a replica has not confirmed yet; not there before it has confirmed any.", ip, sport, state),
		readOffset: c.add(typeGauge, "slave_read_repl_offset", "INFO slave_read_repl_offset",
			"Replication offset the replica has read, in bytes; what it has applied is less while it lags.", host, port),
		downSince: c.add(typeGauge, "master_link_down_since_seconds", "INFO master_link_down_since_seconds",
			"Seconds since the replica's link to its primary went down; -1 when it never was up. Not there while it is up.", host, port),
		syncTotal: c.add(typeGauge, "master_sync_bytes", "INFO master_sync_total_bytes",
			"Bytes of the data set that the primary sends. Not there without a synchronisation, nor when the primary does not say how much comes.", host, port),
		syncRead: c.add(typeGauge, "master_sync_read_bytes", "INFO master_sync_read_bytes",
			"Bytes of the data set that have arrived. Not there without a synchronisation.", host, port),
		syncLeft: c.add(typeGauge, "master_sync_left_bytes", "INFO master_sync_left_bytes",
			"Bytes of the data set that are still to come. There when their total is.", host, port),
		syncPart: c.add(typeGauge, "master_sync_progress_ratio", "INFO master_sync_perc",
			"Share of the data set that has arrived, from 0 to 1. There when the total is.", host, port),
		syncIO: c.add(typeGauge, "master_sync_last_io_seconds_ago", "INFO master_sync_last_io_seconds_ago",
			"Seconds since a part of the data set last arrived. Not there without a synchronisation.", host, port),
		failover: c.add(typeGauge, "master_failover_state", "INFO master_failover_state",
			"1 for the state that the command FAILOVER is in on this server, 0 for the others.", "state"),
	}
}

func (c *replication) name() string { return "replication" }

func (c *replication) collect(r *reading, _ []any, out *sink) error {
	offset, offsetKnown := r.info.Int("master_repl_offset")
	if !offsetKnown {
		offset = -1
	}
	// KeyDB can have several primaries: master_host …, master_1_host ….
	host, port := "", ""
	total := 0.0
	for name, value := range r.info.Section("replication") {
		suffix, ok := masterField(name)
		switch {
		case ok:
			switch suffix {
			case "host":
				host, total = value, 0
			case "port":
				port = value
			case "sync_total_bytes":
				total, _ = number(value)
			case "failover_state":
				c.failoverState(value, out)
				continue
			}
			c.link(suffix, value, total > 0, out, host, port)
		case name == "slave_repl_offset":
			c.number(c.replica, value, out, host, port)
		case name == "slave_read_repl_offset":
			c.number(c.readOffset, value, out, host, port)
		case strings.HasPrefix(name, "slave") && isDigits(name[len("slave"):]):
			c.slave(value, offset, out)
		}
	}
	if r.info.Get("role") == "slave" {
		out.set(c.slaveInfo, 1, r.info.Get("master_host"), r.info.Get("master_port"), r.info.Get("slave_read_only"))
	}
	return nil
}

// link adds what a replica says of its link to one primary. sized means that it
// knows how many bytes the running synchronisation has: of one that the primary
// writes straight to the socket nobody does, and Redis says 0 of 0.
func (c *replication) link(suffix, value string, sized bool, out *sink, host, port string) {
	switch suffix {
	case "link_status":
		out.flag(c.linkUp, value == "up", host, port)
	case "last_io_seconds_ago":
		c.number(c.lastIO, value, out, host, port)
	case "link_down_since_seconds":
		c.number(c.downSince, value, out, host, port)
	case "sync_in_progress":
		c.number(c.syncing, value, out, host, port)
	case "sync_read_bytes":
		c.number(c.syncRead, value, out, host, port)
	case "sync_last_io_seconds_ago":
		c.number(c.syncIO, value, out, host, port)
	}
	if !sized {
		return
	}
	switch suffix {
	case "sync_total_bytes":
		c.number(c.syncTotal, value, out, host, port)
	case "sync_left_bytes":
		c.number(c.syncLeft, value, out, host, port)
	case "sync_perc":
		if v, ok := number(value); ok {
			out.set(c.syncPart, v/100, host, port)
		}
	}
}

// failoverState shows the state of FAILOVER, which Redis has since 6.2.
func (c *replication) failoverState(state string, out *sink) {
	for _, s := range []string{"failover-in-progress", "no-failover", "waiting-for-sync"} {
		out.flag(c.failover, s == state, s)
	}
}

func (c *replication) number(f *family, value string, out *sink, labels ...string) {
	if v, ok := number(value); ok {
		out.set(f, v, labels...)
	}
}

// slave reads "ip=10.0.0.1,port=6379,state=online,offset=1751844676,lag=0".
// primary is this server's own offset, -1 when it does not say.
func (c *replication) slave(line string, primary int64, out *sink) {
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
	// A replica that still gets the data set has confirmed nothing: 0.
	if n, err := strconv.ParseInt(offset, 10, 64); err == nil && primary >= 0 && (n > 0 || state == "online") {
		out.set(c.slaveLagBytes, float64(max(primary-n, 0)), ip, port, state)
	}
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
