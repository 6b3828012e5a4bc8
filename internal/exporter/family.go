package exporter

import (
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Types of metrics, under shorter names.
const (
	typeGauge     = dto.MetricType_GAUGE
	typeCounter   = dto.MetricType_COUNTER
	typeSummary   = dto.MetricType_SUMMARY
	typeHistogram = dto.MetricType_HISTOGRAM
)

// family describes the metrics of one name. It does not change once its
// catalog is sealed.
type family struct {
	id     int    // place in the catalog, by name; -1 for a field passed through
	name   string // with the namespace
	help   string
	kind   dto.MetricType
	labels []string // in alphabetical order
	source string   // what of the server it shows, for the documentation
}

// catalog holds the families of an Exporter.
type catalog struct {
	namespace string
	families  []*family // by name, once sealed
	byName    map[string]*family
}

func newCatalog(namespace string) *catalog {
	return &catalog{namespace: namespace, byName: make(map[string]*family)}
}

// add describes a metric of the server; its name gets the namespace.
func (c *catalog) add(kind dto.MetricType, name, source, help string, labels ...string) *family {
	return c.put(kind, c.namespace+"_"+name, source, help, labels)
}

// addOwn describes a metric of the sidecar, whose prefix no setting changes.
func (c *catalog) addOwn(kind dto.MetricType, name, help string, labels ...string) *family {
	return c.put(kind, "redis_sidecar_"+name, "exporter", help, labels)
}

func (c *catalog) put(kind dto.MetricType, name, source, help string, labels []string) *family {
	if c.byName[name] != nil {
		panic("exporter: metric " + name + " described twice")
	}
	if !slices.IsSorted(labels) {
		panic("exporter: labels of " + name + " are not in alphabetical order")
	}
	f := &family{name: name, help: help, kind: kind, labels: labels, source: source}
	c.byName[name] = f
	c.families = append(c.families, f)
	return f
}

// seal gives the families their order. Nothing may be added afterwards.
func (c *catalog) seal() {
	slices.SortFunc(c.families, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	for i, f := range c.families {
		f.id = i
	}
}
