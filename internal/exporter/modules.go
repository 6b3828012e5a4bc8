package exporter

import "github.com/redis-sidecar/redis-sidecar/internal/info"

// modules is the collector of INFO MODULES, which INFO ALL leaves out: the
// modules that are loaded, and what they say of themselves. The latter is in
// the same table as the fields of INFO.
type modules struct {
	fields *fields
	loaded *family
}

func newModules(c *catalog, f *fields) *modules {
	return &modules{fields: f, loaded: c.add(typeGauge, "module_info", "INFO MODULES",
		"1 for each module that is loaded; only there when that is asked for.", "api", "filters", "name", "usedby", "using", "ver")}
}

func (c *modules) name() string { return "modules" }

func (c *modules) ask(server traits) []command {
	if server.sentinel {
		return nil
	}
	return []command{{"info", []string{"INFO", "MODULES"}}}
}

func (c *modules) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	text, ok := replies[0].(string)
	if !ok {
		return odd("INFO MODULES", replies[0])
	}
	for name, value := range info.Parse(text).All() {
		if name == "module" {
			c.module(value, out)
			continue
		}
		c.fields.emit(name, value, out)
	}
	return nil
}

// module reads "name=search,ver=21005,api=1,filters=0,usedby=[],using=[a|b],options=[]".
func (c *modules) module(line string, out *sink) {
	var name, version, api, filters, usedBy, using string
	for key, value := range pairs(line) {
		switch key {
		case "name":
			name = value
		case "ver":
			version = value
		case "api":
			api = value
		case "filters":
			filters = value
		case "usedby":
			usedBy = value
		case "using":
			using = value
		}
	}
	if name != "" {
		out.set(c.loaded, 1, api, filters, name, usedBy, using, version)
	}
}
