package exporter

import "strings"

// errorCounts is the collector of INFO errorstats.
type errorCounts struct {
	infoOnly
	total *family
}

func newErrors(c *catalog) *errorCounts {
	return &errorCounts{total: c.add(typeCounter, "errors_total", "INFO errorstats",
		"Error replies of the server by their first word.", "err")}
}

func (c *errorCounts) name() string { return "errors" }

func (c *errorCounts) collect(r *reading, _ []any, out *sink) error {
	for name, line := range r.info.Section("errorstats") {
		code, ok := strings.CutPrefix(name, "errorstat_")
		if !ok {
			continue
		}
		for key, v := range numbers(line) {
			if key == "count" {
				out.set(c.total, v, code)
			}
		}
	}
	return nil
}
