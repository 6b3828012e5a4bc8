package exporter

import (
	"errors"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// sentinel is the collector of INFO sentinel and of what a Sentinel says of each
// primary, its replicas and the other Sentinels.
type sentinel struct {
	opts CollectOptions

	numbers                           map[string]*family
	masterStatus, replicas, sentinels *family

	quorumStatus             *family
	settings                 map[string]*family // by field of SENTINEL MASTERS
	lastPing                 *family
	okSentinels, okReplicas  *family
	peer                     *family
	configText, configNumber *family
}

func newSentinel(c *catalog, opts CollectOptions) *sentinel {
	number := func(field, help string) *family {
		return c.add(typeGauge, field, "INFO "+field, help)
	}
	const address, name = "master_address", "master_name"
	setting := func(metric, field, help string) *family {
		return c.add(typeGauge, metric, "SENTINEL MASTERS "+field, help, address, name)
	}
	return &sentinel{
		opts: opts,
		numbers: map[string]*family{
			"sentinel_masters":                number("sentinel_masters", "Primaries this Sentinel watches."),
			"sentinel_tilt":                   number("sentinel_tilt", "1 while this Sentinel mistrusts its clock and does not act (TILT)."),
			"sentinel_running_scripts":        number("sentinel_running_scripts", "Scripts that run now."),
			"sentinel_scripts_queue_length":   number("sentinel_scripts_queue_length", "Scripts that run or wait to."),
			"sentinel_simulate_failure_flags": number("sentinel_simulate_failure_flags", "Failures that SENTINEL SIMULATE-FAILURE has switched on, as bits."),
		},
		masterStatus: c.add(typeGauge, "sentinel_master_status", "INFO masterN",
			"1 when this Sentinel holds a primary for good (ok), 0 for any other status.", address, name, "master_status"),
		replicas: c.add(typeGauge, "sentinel_master_slaves", "INFO masterN",
			"Replicas of a primary that this Sentinel knows.", address, name),
		sentinels: c.add(typeGauge, "sentinel_master_sentinels", "INFO masterN",
			"Sentinels that watch a primary, this one included.", address, name),

		quorumStatus: c.add(typeGauge, "sentinel_master_ckquorum_status", "SENTINEL CKQUORUM",
			"1 when enough Sentinels can be reached to fail a primary over, 0 when not; message says what is missing.", name, "message"),
		settings: map[string]*family{
			"quorum": setting("sentinel_master_setting_ckquorum", "quorum",
				"Sentinels that must agree that a primary is down."),
			"failover-timeout": setting("sentinel_master_setting_failover_timeout", "failover-timeout",
				"Configured time limit of a failover in milliseconds."),
			"parallel-syncs": setting("sentinel_master_setting_parallel_syncs", "parallel-syncs",
				"Replicas that are pointed to a new primary at the same time."),
			"down-after-milliseconds": setting("sentinel_master_setting_down_after_milliseconds", "down-after-milliseconds",
				"Milliseconds without an answer after which this Sentinel holds a primary for down."),
			"config-epoch": setting("sentinel_master_config_epoch", "config-epoch",
				"Epoch of a primary's configuration; every failover raises it."),
		},
		lastPing: setting("sentinel_master_last_ok_ping_reply_seconds", "last-ok-ping-reply",
			"Seconds since a primary last answered PING of this Sentinel well."),
		okSentinels: c.add(typeGauge, "sentinel_master_ok_sentinels", "SENTINEL SENTINELS",
			"Sentinels that watch a primary and are not held for down, this one included.", address, name),
		okReplicas: c.add(typeGauge, "sentinel_master_ok_slaves", "SENTINEL SLAVES",
			"Replicas of a primary that are not held for down.", address, name),
		peer: c.add(typeGauge, "sentinel_peer_info", "SENTINEL SENTINELS",
			"1 for each other Sentinel that watches a primary; only there when that is asked for.",
			"flags", "ip", address, name, "name", "port", "runid"),
		configText: c.add(typeGauge, "sentinel_config_key_value", "SENTINEL CONFIG GET *",
			"1, with the text of a global parameter of this Sentinel; only there when that is asked for, secrets never.", "key", "value"),
		configNumber: c.add(typeGauge, "sentinel_config_value", "SENTINEL CONFIG GET *",
			"Value of a global parameter of this Sentinel that is a number; only there when that is asked for.", "key"),
	}
}

func (c *sentinel) name() string { return "sentinel" }

// Asked of each primary, in this order, after SENTINEL MASTERS.
const (
	askQuorum = iota
	askSentinels
	askReplicas
	asksPerMaster
)

func (c *sentinel) ask(server traits) []command {
	if !server.sentinel {
		return nil
	}
	var out []command
	if server.masters != "" {
		out = append(out, command{"sentinel|masters", []string{"SENTINEL", "MASTERS"}})
	}
	for name := range server.masterNames() {
		out = append(out,
			command{"sentinel|ckquorum", []string{"SENTINEL", "CKQUORUM", name}},
			command{"sentinel|sentinels", []string{"SENTINEL", "SENTINELS", name}},
			// The old name, which every version and every user's ACL knows.
			command{"sentinel|slaves", []string{"SENTINEL", "SLAVES", name}})
	}
	if c.opts.ConfigValues && server.since(6, 2) {
		out = append(out, command{"sentinel|config", []string{"SENTINEL", "CONFIG", "GET", "*"}})
	}
	return out
}

func (c *sentinel) collect(r *reading, replies []any, out *sink) error {
	if !r.server.sentinel {
		return nil
	}
	for name, value := range r.info.Section("sentinel") {
		if f := c.numbers[name]; f != nil {
			if v, ok := number(value); ok {
				out.set(f, v)
			}
		} else if n, ok := strings.CutPrefix(name, "master"); ok && isDigits(n) {
			c.master(value, out)
		}
	}
	var addresses map[string]string
	var problem error
	if r.server.masters != "" {
		addresses, problem = c.masters(replies[0], out)
		replies = replies[1:]
	}
	for name := range r.server.masterNames() {
		problem = errors.Join(problem, c.watched(name, addresses[name], replies[:asksPerMaster], out))
		replies = replies[asksPerMaster:]
	}
	if len(replies) > 0 {
		problem = errors.Join(problem, c.config(replies[0], out))
	}
	return problem
}

// master reads "name=mymaster,status=ok,address=127.0.0.1:6379,slaves=1,sentinels=3".
func (c *sentinel) master(line string, out *sink) {
	var name, state, address, replicas, sentinels string
	for key, value := range pairs(line) {
		switch key {
		case "name":
			name = value
		case "status":
			state = value
		case "address":
			address = value
		case "slaves":
			replicas = value
		case "sentinels":
			sentinels = value
		}
	}
	if name == "" {
		return
	}
	out.flag(c.masterStatus, state == "ok", address, name, state)
	if v, ok := number(replicas); ok {
		out.set(c.replicas, v, address, name)
	}
	if v, ok := number(sentinels); ok {
		out.set(c.sentinels, v, address, name)
	}
}

// masters reads SENTINEL MASTERS, and returns the address of each primary by its
// name.
func (c *sentinel) masters(reply any, out *sink) (map[string]string, error) {
	if reply == nil {
		return nil, nil
	}
	list, ok := reply.([]any)
	if !ok {
		return nil, odd("SENTINEL MASTERS", reply)
	}
	addresses := make(map[string]string)
	for _, item := range list {
		fields, ok := flat(item)
		if !ok {
			return addresses, odd("SENTINEL MASTERS", item)
		}
		name, ip, port := fields["name"], fields["ip"], fields["port"]
		if name == "" || ip == "" || port == "" {
			continue
		}
		address := ip + ":" + port
		addresses[name] = address
		for field, f := range c.settings {
			if v, ok := number(fields[field]); ok {
				out.set(f, v, address, name)
			}
		}
		if v, ok := number(fields["last-ok-ping-reply"]); ok {
			out.set(c.lastPing, v/1000, address, name)
		}
	}
	return addresses, nil
}

// watched reads what was asked about one primary.
func (c *sentinel) watched(name, address string, replies []any, out *sink) error {
	switch reply := replies[askQuorum].(type) {
	case nil:
	case string:
		out.flag(c.quorumStatus, true, name, quorumMessage(reply))
	case error:
		out.flag(c.quorumStatus, false, name, quorumMessage(reply.Error()))
	default:
		return odd("SENTINEL CKQUORUM", reply)
	}
	if address == "" {
		return nil // not in SENTINEL MASTERS: removed meanwhile
	}
	peers, healthy, err := listed("SENTINEL SENTINELS", replies[askSentinels])
	if err != nil {
		return err
	}
	if replies[askSentinels] != nil {
		out.set(c.okSentinels, float64(1+healthy), address, name)
	}
	if c.opts.SentinelPeers {
		for _, p := range peers {
			out.set(c.peer, 1, p["flags"], p["ip"], address, name, p["name"], p["port"], p["runid"])
		}
	}
	_, healthy, err = listed("SENTINEL SLAVES", replies[askReplicas])
	if err != nil {
		return err
	}
	if replies[askReplicas] != nil {
		out.set(c.okReplicas, float64(healthy), address, name)
	}
	return nil
}

func (c *sentinel) config(reply any, out *sink) error {
	if reply == nil {
		return nil
	}
	fields, ok := flat(reply)
	if !ok {
		return odd("SENTINEL CONFIG GET", reply)
	}
	for name, value := range fields {
		parameterSeries(c.configText, c.configNumber, name, value, c.opts.RevealUsers, out)
	}
	return nil
}

// listed reads a list of Sentinels or replicas, and counts those that are not
// held for down. One without flags is not counted.
func listed(command string, reply any) (all []map[string]string, healthy int, err error) {
	if reply == nil {
		return nil, 0, nil
	}
	list, ok := reply.([]any)
	if !ok {
		return nil, 0, odd(command, reply)
	}
	for _, item := range list {
		fields, ok := flat(item)
		if !ok {
			return all, healthy, odd(command, item)
		}
		all = append(all, fields)
		// s_down and o_down, subjectively and objectively.
		if flags, ok := fields["flags"]; ok && !strings.Contains(flags, "s_down") && !strings.Contains(flags, "o_down") {
			healthy++
		}
	}
	return all, healthy, nil
}

// flat reads a list of names and values.
func flat(reply any) (map[string]string, bool) {
	list, ok := reply.([]any)
	if !ok {
		return nil, false
	}
	out := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		name, ok1 := list[i].(string)
		value, ok2 := list[i+1].(string)
		if !ok1 || !ok2 {
			return nil, false
		}
		out[name] = value
	}
	return out, true
}

// errorIsAnswer tells whether the error reply to a command is what it is asked
// for: SENTINEL CKQUORUM says so that there are too few Sentinels, or that it
// does not know the primary any more.
func errorIsAnswer(name string, err error) bool {
	return name == "sentinel|ckquorum" && status.ReasonOf(err) == status.ReasonRedis
}

// quorumMessage makes a closed set of what SENTINEL CKQUORUM answers. When all
// is well that is the answer itself, in which only the number of Sentinels
// moves: redis_exporter shows it so, and dashboards have it.
func quorumMessage(reply string) string {
	const good = " usable Sentinels. Quorum and failover authorization can be reached"
	if n, ok := strings.CutPrefix(strings.TrimSuffix(reply, good), "OK "); ok && isDigits(n) && len(n) < 5 && strings.HasSuffix(reply, good) {
		return reply
	}
	quorum, majority := strings.Contains(reply, "the specified quorum"), strings.Contains(reply, "the majority")
	switch {
	case strings.HasPrefix(reply, "OK"):
		return "OK"
	case !strings.Contains(reply, "NOQUORUM"):
		return "ERR"
	case quorum && majority:
		return "NOQUORUM too few Sentinels for the quorum and for the majority"
	case quorum:
		return "NOQUORUM too few Sentinels for the quorum"
	case majority:
		return "NOQUORUM too few Sentinels for the majority"
	}
	return "NOQUORUM"
}
