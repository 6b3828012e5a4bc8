package exporter

import "strings"

// engines is the collector of INFO scripting engines: what runs EVAL and
// functions, one line each. Valkey has more than one since 9.1.
type engines struct {
	infoOnly
	info, used, overhead *family
}

func newEngines(c *catalog) *engines {
	add := func(name, help string) *family {
		return c.add(typeGauge, name, "INFO engine_N", help, "abi_version", "engine", "module")
	}
	return &engines{
		info:     add("scripting_engine_info", "1 for each scripting engine, with the module that brings it (since Valkey 9.1)."),
		used:     add("scripting_engine_memory_used_bytes", "Bytes of a scripting engine (since Valkey 9.1)."),
		overhead: add("scripting_engine_memory_overhead_bytes", "Bytes of the server's own records of a scripting engine (since Valkey 9.1)."),
	}
}

func (c *engines) name() string { return "engines" }

func (c *engines) collect(r *reading, _ []any, out *sink) error {
	for name, line := range r.info.Section("scripting engines") {
		if n, ok := strings.CutPrefix(name, "engine_"); ok && isDigits(n) {
			c.engine(line, out)
		}
	}
	return nil
}

// engine reads "name=LUA,module=lua,abi_version=4,used_memory=70656,memory_overhead=64".
func (c *engines) engine(line string, out *sink) {
	var name, module, version, used, overhead string
	for key, value := range pairs(line) {
		switch key {
		case "name":
			name = value
		case "module":
			module = value
		case "abi_version":
			version = value
		case "used_memory":
			used = value
		case "memory_overhead":
			overhead = value
		}
	}
	if name == "" {
		return
	}
	out.set(c.info, 1, version, name, module)
	if v, ok := number(used); ok {
		out.set(c.used, v, version, name, module)
	}
	if v, ok := number(overhead); ok {
		out.set(c.overhead, v, version, name, module)
	}
}
