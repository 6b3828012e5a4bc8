package exporter

import (
	"net"
	"strconv"
	"strings"
)

// nodesLimit is how many nodes have series of their own.
const nodesLimit = 1000

// clusterView is the collector of CLUSTER NODES: the cluster as this node sees
// it, which during a partition is not what others see.
type clusterView struct {
	nodes, up, linkUp, slots, lastPong *family
	migrating, importing               *family
}

func newClusterNodes(c *catalog) *clusterView {
	const source = "CLUSTER NODES"
	labels := []string{"address", "node_id", "role"}
	return &clusterView{
		nodes: c.add(typeGauge, "cluster_nodes", source,
			"Nodes of the cluster by role and state, as this node sees them.", "role", "state"),
		up: c.add(typeGauge, "cluster_node_up", source,
			"1 when this node holds another, or itself, for well; 0 when it is suspected (PFAIL), down (FAIL), in handshake or without address.", labels...),
		linkUp: c.add(typeGauge, "cluster_node_link_up", source,
			"1 when the cluster bus link to a node is up.", labels...),
		slots: c.add(typeGauge, "cluster_node_slots", source,
			"Hash slots of a node.", labels...),
		lastPong: c.add(typeGauge, "cluster_node_last_pong_timestamp_seconds", source,
			"Unix time of the last answer of a node to a ping of this one; not there before the first.", labels...),
		migrating: c.add(typeGauge, "cluster_slots_migrating", source,
			"Hash slots that this node is giving away."),
		importing: c.add(typeGauge, "cluster_slots_importing", source,
			"Hash slots that this node is taking over."),
	}
}

func (c *clusterView) name() string { return "cluster_nodes" }

func (c *clusterView) ask(server traits) []command {
	if !server.cluster {
		return nil
	}
	return []command{{"cluster|nodes", []string{"CLUSTER", "NODES"}}}
}

// clusterNode is one line of CLUSTER NODES.
type clusterNode struct {
	id, address, role, state string
	myself, connected        bool
	lastPong                 float64 // seconds; 0 = never
	slots                    int
	migrating, importing     int
}

// nodeStates are the values of the label state, worst first: a node has the
// first one that its flags name.
func nodeStates() []string { return []string{"handshake", "noaddr", "fail", "pfail", "ok"} }

func (c *clusterView) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	text, ok := replies[0].(string)
	if !ok {
		return odd("CLUSTER NODES", replies[0])
	}
	counts := make(map[[2]string]int)
	shown := 0
	for line := range strings.SplitSeq(text, "\n") {
		n, ok := clusterNodeOf(line)
		if !ok {
			continue
		}
		counts[[2]string{n.role, n.state}]++
		if n.myself {
			out.set(c.migrating, float64(n.migrating))
			out.set(c.importing, float64(n.importing))
		}
		if shown == nodesLimit && !n.myself {
			out.drop(1)
			continue
		}
		if !n.myself {
			shown++
		}
		out.flag(c.up, n.state == "ok", n.address, n.id, n.role)
		out.flag(c.linkUp, n.connected, n.address, n.id, n.role)
		out.set(c.slots, float64(n.slots), n.address, n.id, n.role)
		if n.lastPong > 0 && !n.myself { // before 7.4 a node has one of itself, which stays
			out.set(c.lastPong, n.lastPong, n.address, n.id, n.role)
		}
	}
	for _, role := range []string{"master", "slave"} {
		for _, state := range nodeStates() {
			out.set(c.nodes, float64(counts[[2]string{role, state}]), role, state)
		}
	}
	return nil
}

// clusterNodeOf reads
//
//	<id> <ip:port@bus-port[,hostname[,name=value …]]> <flags> <primary> <ping-sent> <pong-received> <epoch> <link> <slot> …
//
// where a slot is 5, 0-5461, or on the node's own line [93->-node] while it
// moves away and [93-<-node] while it comes.
func clusterNodeOf(line string) (n clusterNode, ok bool) {
	words := strings.Fields(line)
	if len(words) < 8 {
		return n, false
	}
	n.id, n.address = words[0], nodeAddress(words[1])
	n.role, n.state = "master", "ok"
	worst := len(nodeStates()) - 1
	for flag := range strings.SplitSeq(words[2], ",") {
		switch flag {
		case "myself":
			n.myself = true
		case "slave":
			n.role = "slave"
		case "fail?":
			flag = "pfail"
		}
		for i, state := range nodeStates()[:worst] {
			if flag == state {
				n.state, worst = state, i
				break
			}
		}
	}
	if pong, err := strconv.ParseInt(words[5], 10, 64); err == nil && pong > 0 {
		n.lastPong = float64(pong) / 1000
	}
	n.connected = words[7] == "connected"
	for _, word := range words[8:] {
		switch {
		case !strings.HasPrefix(word, "["):
			n.slots += slotsOf(word)
		case strings.Contains(word, "->-"):
			n.migrating++
		case strings.Contains(word, "-<-"):
			n.importing++
		}
	}
	n.slots = min(n.slots, clusterSlots)
	return n, true
}

const clusterSlots = 16384

// slotsOf returns how many slots "5" or "0-5461" are.
func slotsOf(word string) int {
	first, last, isRange := strings.Cut(word, "-")
	from, err := strconv.Atoi(first)
	if err != nil || from < 0 || from >= clusterSlots {
		return 0
	}
	if !isRange {
		return 1
	}
	to, err := strconv.Atoi(last)
	if err != nil || to < from || to >= clusterSlots {
		return 0
	}
	return to - from + 1
}

// nodeAddress returns host:port of a node. The host name stands in for an address
// that is not known.
func nodeAddress(s string) string {
	host, port, hostname := splitNode(s)
	if port == "" {
		return host
	}
	if host == "" {
		host = hostname
	}
	return net.JoinHostPort(host, port)
}

// splitNode reads "10.0.0.1:6379@16379,host,shard-id=…" (bus port since Redis 4.0,
// host name since 7.0, more since 7.2). IPv6 comes without brackets. port is ""
// for what is no address.
func splitNode(s string) (host, port, hostname string) {
	s, rest, _ := strings.Cut(s, ",")
	hostname, _, _ = strings.Cut(rest, ",")
	if strings.Contains(hostname, "=") {
		hostname = ""
	}
	s, _, _ = strings.Cut(s, "@")
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", hostname
	}
	return strings.Trim(s[:i], "[]"), s[i+1:], hostname
}
