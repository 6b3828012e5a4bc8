// Package monitoring_test proves what deploy/monitoring/ and docs/runbooks/ promise:
// the rules are right and tested, every metric that a rule or a dashboard uses is
// one that redis-sidecar has, and every alert has its page.
package monitoring_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var update = flag.Bool("update", false, "write the table of alerts in docs/monitoring.md")

const (
	deploy   = "../../deploy/monitoring/"
	runbooks = "../../docs/runbooks/"
	pagesURL = "https://github.com/redis-sidecar/redis-sidecar/blob/main/docs/runbooks/"
)

type group struct {
	Name  string
	Rules []rule
}

type rule struct {
	Alert, Record, Expr, For string
	Labels, Annotations      map[string]string
}

func readRules(t *testing.T, name string) []group {
	t.Helper()
	var out struct{ Groups []group }
	readYAML(t, deploy+name, &out)
	if len(out.Groups) == 0 {
		t.Fatalf("%s has no rules", name)
	}
	return out.Groups
}

func readYAML(t *testing.T, path string, out any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, path)))
	d.KnownFields(true)
	if err := d.Decode(out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// promtool runs promtool in dir.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Program(t, "promtool", "apt-get install prometheus"), args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRulesByPromtool(t *testing.T) {
	promtool(t, deploy, "check", "rules", "alerts.yaml", "recording-rules.yaml")
	promtool(t, deploy, "test", "rules", "alerts_test.yaml", "recording-rules_test.yaml")
}

// The same tests with targets that have no label of Kubernetes.
func TestAlertsWithoutKubernetes(t *testing.T) {
	text := read(t, deploy+"alerts_test.yaml")
	plain := strings.NewReplacer(`, namespace="prod", pod="redis-0"`, "", `, namespace="prod", pod="redis-1"`, "", `, namespace="prod", pod="redis-2"`, "", `, namespace="prod", pod="redis-5"`, "",
		", namespace: prod, pod: redis-0", "", ", namespace: prod, pod: redis-1", "",
		", namespace: prod", "", ", namespace prod", "").Replace(text)
	// What was named by its pod is named by its instance.
	plain = strings.NewReplacer("redis-0", "10.0.0.1:9121", "redis-1", "10.0.0.2:9121").Replace(plain)
	if plain == text || strings.Contains(plain, "prod") {
		t.Fatal("alerts_test.yaml has other labels than this test takes away")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"alerts_test.yaml": plain, "alerts.yaml": read(t, deploy+"alerts.yaml")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, dir, "test", "rules", "alerts_test.yaml")
}

// Every alert has a case in which it fires and one in which it does not, every
// recording a case.
func TestEveryRuleIsTested(t *testing.T) {
	var alerts struct {
		Tests []struct {
			Rules []struct {
				Alertname string
				Expected  []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, deploy+"alerts_test.yaml")), &alerts); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range alerts.Tests {
		for _, r := range test.Rules {
			if len(r.Expected) > 0 {
				fires[r.Alertname] = true
			} else {
				quiet[r.Alertname] = true
			}
		}
	}
	for _, g := range readRules(t, "alerts.yaml") {
		for _, r := range g.Rules {
			if !fires[r.Alert] {
				t.Errorf("no test has %s firing", r.Alert)
			}
			if !quiet[r.Alert] {
				t.Errorf("no test has %s silent", r.Alert)
			}
		}
	}
	records := read(t, deploy+"recording-rules_test.yaml")
	for _, g := range readRules(t, "recording-rules.yaml") {
		for _, r := range g.Rules {
			if !regexp.MustCompile(`expr: .*\b` + regexp.QuoteMeta(r.Record) + `\b`).MatchString(records) {
				t.Errorf("no test of %s", r.Record)
			}
		}
	}
}

// What a person is told, and that the names are in order.
func TestRulesAreWellFormed(t *testing.T) {
	severities := []string{"critical", "warning", "info"}
	seen := map[string]bool{}
	variable := regexp.MustCompile(`\$labels\.(\w+)`)
	labels := know(t).labels()
	for _, g := range readRules(t, "alerts.yaml") {
		for _, r := range g.Rules {
			if seen[r.Alert] || !regexp.MustCompile(`^Redis[A-Za-z]+$`).MatchString(r.Alert) {
				t.Errorf("alert %q: twice, or not Redis…", r.Alert)
			}
			seen[r.Alert] = true
			if len(r.Labels) != 1 || !slices.Contains(severities, r.Labels["severity"]) {
				t.Errorf("%s: labels %v, want severity, one of %v", r.Alert, r.Labels, severities)
			}
			if n := len(r.Annotations["summary"]); n < 20 || n > 160 || strings.Contains(r.Annotations["summary"], "\n") {
				t.Errorf("%s: summary %q", r.Alert, r.Annotations["summary"])
			}
			if len(r.Annotations["description"]) < 60 {
				t.Errorf("%s: description %q", r.Alert, r.Annotations["description"])
			}
			if len(r.Annotations) != 3 {
				t.Errorf("%s: annotations %v, want summary, description, runbook_url", r.Alert, r.Annotations)
			}
			for _, a := range r.Annotations {
				for _, m := range variable.FindAllStringSubmatch(a, -1) {
					if !labels[m[1]] {
						t.Errorf("%s: no metric has a label %s", r.Alert, m[1])
					}
				}
			}
		}
	}
	for _, g := range readRules(t, "recording-rules.yaml") {
		for _, r := range g.Rules {
			if r.Record != "redis_memory_fragmentation_ratio" && !regexp.MustCompile(`^instance(_[a-z]+)?:redis_[a-z_]+:[a-z0-9_]+$`).MatchString(r.Record) {
				t.Errorf("recording %q is not level:metric:operation", r.Record)
			}
			if len(r.Labels) > 0 {
				t.Errorf("%s adds labels", r.Record)
			}
		}
	}
}

// Each metric, and each label, of each rule is one that redis-sidecar has.
func TestMetricsOfRules(t *testing.T) {
	k := know(t)
	labels := k.labels()
	n := 0
	for _, file := range []string{"alerts.yaml", "recording-rules.yaml"} {
		for _, g := range readRules(t, file) {
			for _, r := range g.Rules {
				e, err := parse(r.Expr)
				if err != nil {
					t.Errorf("%s%s: %v", r.Alert, r.Record, err)
				}
				for _, s := range e.selectors {
					n++
					if err := k.check(s); err != nil {
						t.Errorf("%s%s: %v", r.Alert, r.Record, err)
					}
					if k.recorded[s.name] {
						t.Errorf("%s%s uses the recording %s: the two files must do without each other", r.Alert, r.Record, s.name)
					}
				}
				for _, l := range e.labels {
					if !labels[l] {
						t.Errorf("%s%s: no metric has a label %s", r.Alert, r.Record, l)
					}
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d selectors were found", n)
	}
	if err := k.check(selector{name: "redis_no_such_metric"}); err == nil {
		t.Error("a metric that does not exist is known")
	}
	if err := k.check(selector{"redis_sidecar_probe_verdict", []matcher{{"probe", "=", "nonsense"}}}); err == nil {
		t.Error("a label value that does not exist is known")
	}
}

// The names that dashboards 763 and 14091, redis_exporter's mixin and
// awesome-prometheus-alerts use, which is why people can change the image only.
func TestMetricsOfOthers(t *testing.T) {
	k := know(t)
	names := list(t, "testdata/required-names.txt")
	if len(names) < 50 {
		t.Fatalf("only %d names", len(names))
	}
	for name := range names {
		if len(k.series[name]) == 0 {
			t.Errorf("%s is in no scrape", name)
		}
	}
}

func TestRunbooks(t *testing.T) {
	used := map[string]bool{}
	for _, g := range readRules(t, "alerts.yaml") {
		for _, r := range g.Rules {
			page, ok := strings.CutPrefix(r.Annotations["runbook_url"], pagesURL)
			if !ok {
				t.Errorf("%s: runbook_url %q does not begin with %s", r.Alert, r.Annotations["runbook_url"], pagesURL)
				continue
			}
			used[page] = true
			if text := strings.Join(strings.Fields(read(t, runbooks+page)), " "); !strings.Contains(text, "`"+r.Alert+"` ("+r.Labels["severity"]+")") {
				t.Errorf("%s does not name %s with its severity", page, r.Alert)
			}
		}
	}
	index := read(t, runbooks+"README.md")
	pages, err := filepath.Glob(runbooks + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := know(t)
	metric := regexp.MustCompile(`(?:\binstance[a-z_]*:)?\bredis_[a-z0-9_]+(?::[a-z0-9_]+)?\b`)
	notMetrics := map[string]bool{"redis_mode": true, "redis_exporter": true, "redis_version": true}
	for _, path := range append(pages, "../../docs/monitoring.md") {
		page := filepath.Base(path)
		text := read(t, path)
		for _, name := range metric.FindAllString(text, -1) {
			if !notMetrics[name] && len(known.series[name]) == 0 && known.documented[name] == nil && !known.recorded[name] {
				t.Errorf("%s names %s, which redis-sidecar does not have", page, name)
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+\.md)(?:#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), link[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		if page == "README.md" || page == "monitoring.md" {
			continue
		}
		if !used[page] {
			t.Errorf("no alert leads to %s", page)
		}
		if !strings.Contains(index, "]("+page+")") {
			t.Errorf("README.md does not list %s", page)
		}
		for _, part := range []string{"# ", "**What it means.**", "**How bad.**", "## Look\n", "```sh\n", "## Do\n", "## When it is no trouble\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q", page, part)
			}
		}
	}
}

// The table of alerts in docs/monitoring.md is that of the rules.
func TestTableOfAlerts(t *testing.T) {
	const page, begin, end = "../../docs/monitoring.md", "<!-- generated:alerts -->\n", "<!-- /generated:alerts -->\n"
	var b strings.Builder
	b.WriteString("| alert | severity | for | what to do |\n|---|---|---|---|\n")
	for _, g := range readRules(t, "alerts.yaml") {
		for _, r := range g.Rules {
			file := strings.TrimPrefix(r.Annotations["runbook_url"], pagesURL)
			fmt.Fprintf(&b, "| `%s` | %s | %s | [%s](runbooks/%s) |\n", r.Alert, r.Labels["severity"], r.For, strings.TrimSuffix(file, ".md"), file)
		}
	}
	text := read(t, page)
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q … %q", page, begin, end)
	}
	want := before + begin + b.String() + end + after
	if text == want {
		return
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("the table of alerts in %s is old: go test ./test/monitoring -run TestTableOfAlerts -update", page)
}
