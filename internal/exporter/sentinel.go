package exporter

import "strings"

// sentinel is the collector of INFO sentinel.
type sentinel struct {
	infoOnly
	numbers                           map[string]*family
	masterStatus, replicas, sentinels *family
}

func newSentinel(c *catalog) *sentinel {
	number := func(field, help string) *family {
		return c.add(typeGauge, field, "INFO "+field, help)
	}
	const address, name = "master_address", "master_name"
	return &sentinel{
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
	}
}

func (c *sentinel) name() string { return "sentinel" }

func (c *sentinel) collect(r *reading, _ []any, out *sink) error {
	for name, value := range r.info.Section("sentinel") {
		if f := c.numbers[name]; f != nil {
			if v, ok := number(value); ok {
				out.set(f, v)
			}
		} else if n, ok := strings.CutPrefix(name, "master"); ok && isDigits(n) {
			c.master(value, out)
		}
	}
	return nil
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
