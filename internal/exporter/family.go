package exporter

import (
	"regexp"
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
	owner  string   // the collector that emits it; "" for the exporter itself

	header string // the lines before its series, in the text format
	hidden bool   // left out by the settings
	limit  int    // how many series it may have: what names them comes from the server
	role   bool   // gets the label instance_role where that is wanted
}

// ownPrefix begins the names of the sidecar's own metrics.
const ownPrefix = "redis_sidecar_"

// passedCacheLimit is for how many fields passed through the names are kept.
const passedCacheLimit = 1024

// catalog holds the families of an Exporter.
type catalog struct {
	namespace        string
	include, exclude *regexp.Regexp // of full names; nil: everything, nothing
	limit            int            // series of one family

	families []*family // by name, once sealed
	byName   map[string]*family
	passed   map[string]*family // by field; only the running collection uses it
}

func newCatalog(opts Options) *catalog {
	return &catalog{
		namespace: opts.Namespace, include: opts.Include, exclude: opts.Exclude, limit: opts.MaxSeries,
		byName: make(map[string]*family), passed: make(map[string]*family),
	}
}

// add describes a metric of the server; its name gets the namespace.
func (c *catalog) add(kind dto.MetricType, name, source, help string, labels ...string) *family {
	f := c.put(kind, c.namespace+"_"+name, source, help, labels)
	f.role = true
	return f
}

// addOwn describes a metric of the sidecar, whose prefix no setting changes.
func (c *catalog) addOwn(kind dto.MetricType, name, help string, labels ...string) *family {
	return c.put(kind, ownPrefix+name, "exporter", help, labels)
}

func (c *catalog) put(kind dto.MetricType, name, source, help string, labels []string) *family {
	if c.byName[name] != nil {
		panic("exporter: metric " + name + " described twice")
	}
	if !slices.IsSorted(labels) {
		panic("exporter: labels of " + name + " are not in alphabetical order")
	}
	f := c.describe(kind, name, help)
	f.labels, f.source, f.limit = labels, source, c.limit
	c.byName[name] = f
	c.families = append(c.families, f)
	return f
}

// describe makes a family that is not in the catalog.
func (c *catalog) describe(kind dto.MetricType, name, help string) *family {
	return &family{
		id: -1, name: name, help: help, kind: kind, hidden: c.isHidden(name),
		header: "# HELP " + name + " " + escapeHelp(help) + "\n# TYPE " + name + " " + strings.ToLower(kind.String()) + "\n",
	}
}

// isHidden tells whether the settings leave out a metric. Include chooses among
// those of the server.
func (c *catalog) isHidden(name string) bool {
	ofServer := strings.HasPrefix(name, c.namespace+"_") && !strings.HasPrefix(name, ownPrefix)
	return c.include != nil && ofServer && !c.include.MatchString(name) || c.exclude != nil && c.exclude.MatchString(name)
}

// passing returns a family for a field without a table row, or nil when its
// name is one of the catalog's.
func (c *catalog) passing(field, help string) *family {
	if f := c.passed[field]; f != nil {
		return f
	}
	name := c.namespace + "_" + field
	if c.byName[name] != nil {
		return nil
	}
	f := c.describe(typeGauge, name, help)
	f.role = true
	if len(c.passed) == passedCacheLimit {
		clear(c.passed)
	}
	c.passed[field] = f
	return f
}

// seal gives the families their order. Nothing may be added afterwards.
func (c *catalog) seal() {
	slices.SortFunc(c.families, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	for i, f := range c.families {
		f.id = i
	}
}
