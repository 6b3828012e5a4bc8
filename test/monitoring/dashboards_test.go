package monitoring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// dashboard is what this test looks at of Grafana's model.
type dashboard struct {
	UID, Title, Description string
	SchemaVersion           int
	ID                      *int
	Panels                  []panel
	Annotations             struct{ List []annotation }
	Templating              struct{ List []variable }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               *datasource
	GridPos                  struct{ H, W, X, Y int }
	Collapsed                bool
	Panels                   []panel // of a collapsed row
	Targets                  []query
	FieldConfig              struct {
		Defaults struct{ Unit string }
	}
	Options json.RawMessage
}

type query struct {
	RefID, Expr, LegendFormat, Format string
	Datasource                        *datasource
	Instant, Range                    bool
}

type datasource struct{ Type, UID string }

type annotation struct {
	Name, Expr string
	Datasource datasource
}

type variable struct {
	Name, Type, Definition, AllValue string
	Datasource                       *datasource
	IncludeAll, Multi                bool
}

func readDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob(deploy + "dashboards/*.json")
	if err != nil || len(files) != 2 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	out := map[string]dashboard{}
	for _, f := range files {
		var d dashboard
		if err := json.NewDecoder(bytes.NewReader([]byte(read(t, f)))).Decode(&d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out[filepath.Base(f)] = d
	}
	return out
}

// all returns the panels of d that are no rows, in their order, and the rows.
func (d dashboard) all() (panels, rows []panel) {
	for _, p := range d.Panels {
		if p.Type == "row" {
			rows = append(rows, p)
			panels = append(panels, p.Panels...)
			continue
		}
		panels = append(panels, p)
	}
	return panels, rows
}

func TestDashboardsAreWellFormed(t *testing.T) {
	types := []string{"timeseries", "stat", "table", "state-timeline", "gauge"}
	uids := map[string]bool{}
	for file, d := range readDashboards(t) {
		if d.UID == "" || uids[d.UID] || d.Title == "" || d.Description == "" || d.ID != nil || d.SchemaVersion < 39 {
			t.Errorf("%s: uid %q, title %q, description %q, id %v, schemaVersion %d", file, d.UID, d.Title, d.Description, d.ID, d.SchemaVersion)
		}
		uids[d.UID] = true
		names := []string{}
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
			if v.Type == "query" && (v.AllValue != ".*" || !v.IncludeAll || !v.Multi || v.Datasource == nil || v.Datasource.UID != "${datasource}") {
				t.Errorf("%s: variable %s: %+v: without .* for All, a target without that label would be left out", file, v.Name, v)
			}
		}
		if got := strings.Join(names, " "); got != "datasource namespace job instance" {
			t.Errorf("%s: variables %s", file, got)
		}
		panels, rows := d.all()
		if len(rows) < 6 || len(panels) < 30 {
			t.Errorf("%s has %d rows and %d panels", file, len(rows), len(panels))
		}
		ids := map[int]bool{}
		for _, p := range append(slices.Clone(rows), panels...) {
			if p.ID == 0 || ids[p.ID] || p.Title == "" {
				t.Errorf("%s: panel %q: id %d is 0 or taken, or no title", file, p.Title, p.ID)
			}
			ids[p.ID] = true
			if g := p.GridPos; g.X < 0 || g.X+g.W > 24 || g.W < 3 || g.H < 1 {
				t.Errorf("%s: panel %q lies at %+v", file, p.Title, g)
			}
		}
		overlap(t, file, d.Panels)
		for _, r := range rows {
			if r.Collapsed != (len(r.Panels) > 0) {
				t.Errorf("%s: row %q: collapsed %v with %d panels", file, r.Title, r.Collapsed, len(r.Panels))
			}
			overlap(t, file, r.Panels)
		}
		for _, p := range panels {
			if !slices.Contains(types, p.Type) {
				t.Errorf("%s: %q is a %s", file, p.Title, p.Type)
			}
			if len(p.Description) < 10 || p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 || len(p.Options) == 0 {
				t.Errorf("%s: %q: description %q, data source %v, %d queries", file, p.Title, p.Description, p.Datasource, len(p.Targets))
			}
			if unitless := p.Type == "table" || p.Type == "state-timeline"; !unitless && p.FieldConfig.Defaults.Unit == "" {
				t.Errorf("%s: %q has no unit", file, p.Title)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] || q.Datasource == nil || q.Datasource.UID != "${datasource}" || q.Instant == q.Range {
					t.Errorf("%s: %q: query %+v", file, p.Title, q)
				}
				refs[q.RefID] = true
				if p.Type == "table" && (q.Format != "table" || !q.Instant) {
					t.Errorf("%s: %q: a table of a query that is not one", file, p.Title)
				}
			}
		}
	}
}

// overlap fails where two panels lie on each other.
func overlap(t *testing.T, file string, panels []panel) {
	t.Helper()
	for i, a := range panels {
		for _, b := range panels[i+1:] {
			p, q := a.GridPos, b.GridPos
			if p.X < q.X+q.W && q.X < p.X+p.W && p.Y < q.Y+q.H && q.Y < p.Y+p.H {
				t.Errorf("%s: %q and %q overlap", file, a.Title, b.Title)
			}
		}
	}
}

// Each query speaks of metrics and labels that redis-sidecar has, looks at the
// chosen targets only, and is PromQL.
func TestMetricsOfDashboards(t *testing.T) {
	k := know(t)
	labels := k.labels()
	legend := regexp.MustCompile(`\{\{ *(\w+) *\}\}`)
	var rules struct {
		Groups []map[string]any `yaml:"groups"`
	}
	for file, d := range readDashboards(t) {
		queries := []query{}
		panels, _ := d.all()
		for _, p := range panels {
			for _, q := range p.Targets {
				q.RefID = p.Title
				queries = append(queries, q)
			}
		}
		for _, a := range d.Annotations.List {
			if a.Expr != "" {
				queries = append(queries, query{RefID: "annotation " + a.Name, Expr: a.Expr})
			}
		}
		checks := []map[string]string{}
		for i, q := range queries {
			e, err := parse(q.Expr)
			if err != nil {
				t.Errorf("%s: %q: %v", file, q.RefID, err)
			}
			if len(e.selectors) == 0 {
				t.Errorf("%s: %q asks for no metric: %s", file, q.RefID, q.Expr)
			}
			for _, s := range e.selectors {
				if err := k.check(s); err != nil {
					t.Errorf("%s: %q: %v", file, q.RefID, err)
				}
				if k.recorded[s.name] {
					t.Errorf("%s: %q needs the recording rule %s", file, q.RefID, s.name)
				}
				for _, v := range []string{"namespace", "job", "instance"} {
					if !slices.Contains(s.matchers, matcher{v, "=~", "$" + v}) {
						t.Errorf("%s: %q: %s is not limited to the chosen %s", file, q.RefID, s.name, v)
					}
				}
			}
			used := e.labels
			for _, m := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
				used = append(used, m[1])
			}
			for _, l := range used {
				if !labels[l] {
					t.Errorf("%s: %q: no metric has a label %s", file, q.RefID, l)
				}
			}
			plain := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$job", ".*", "$instance", ".*").Replace(q.Expr)
			checks = append(checks, map[string]string{"record": fmt.Sprintf("query_%d", i), "expr": plain})
		}
		for _, v := range d.Templating.List {
			e, err := parse(v.Definition)
			if err != nil {
				t.Errorf("%s: variable %s: %v", file, v.Name, err)
			}
			for _, s := range e.selectors {
				if err := k.check(s); err != nil && s.name != v.Name { // label_values(metric, label)
					t.Errorf("%s: variable %s: %v", file, v.Name, err)
				}
			}
		}
		rules.Groups = append(rules.Groups, map[string]any{"name": file, "rules": checks})
	}
	text, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "queries.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "check", "rules", "queries.yaml")
}
