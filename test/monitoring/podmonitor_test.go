package monitoring_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// podmonitor.yaml finds the sidecars of deploy/redis.yaml, and leaves the label job
// to Prometheus.
func TestPodMonitorFindsTheSidecar(t *testing.T) {
	var monitor struct {
		Kind string
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Endpoints []struct {
				Port string
			} `yaml:"podMetricsEndpoints"`
		}
	}
	decode(t, deploy+"podmonitor.yaml", "PodMonitor", &monitor)
	type container struct {
		Name  string
		Ports []struct{ Name string }
	}
	var set struct {
		Kind string
		Spec struct {
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					InitContainers []container `yaml:"initContainers"`
				}
			}
		}
	}
	decode(t, "../../deploy/redis.yaml", "StatefulSet", &set)
	if len(monitor.Spec.Selector.MatchLabels) == 0 {
		t.Error("the PodMonitor selects every pod")
	}
	for name, want := range monitor.Spec.Selector.MatchLabels {
		if got := set.Spec.Template.Metadata.Labels[name]; got != want {
			t.Errorf("the pods have %s=%q, the PodMonitor looks for %q", name, got, want)
		}
	}
	if len(monitor.Spec.Endpoints) != 1 {
		t.Fatalf("%d endpoints, want one: two are two targets", len(monitor.Spec.Endpoints))
	}
	e := monitor.Spec.Endpoints[0]
	for _, c := range set.Spec.Template.Spec.InitContainers {
		for _, p := range c.Ports {
			if c.Name == "sidecar" && p.Name == e.Port {
				return
			}
		}
	}
	t.Errorf("no container sidecar with a port named %q", e.Port)
}

// decode reads the first document of a kind.
func decode(t *testing.T, path, kind string, out any) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, path)))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s has no %s", path, kind)
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var head struct{ Kind string }
		if err := doc.Decode(&head); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if head.Kind != kind {
			continue
		}
		if err := doc.Decode(out); err != nil {
			t.Fatalf("%s: %s: %v", path, kind, err)
		}
		return
	}
}
