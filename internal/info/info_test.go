package info_test

import (
	"os"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
)

func TestParse(t *testing.T) {
	in := info.Parse("# Server\r\nredis_version:7.0.15\r\nempty:\r\nnot a field\r\n:no name\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\ntwice:1\r\ntwice:2\r\n")
	for name, want := range map[string]string{
		"redis_version": "7.0.15",
		"empty":         "",
		"db0":           "keys=1,expires=0",
		"twice":         "1",
		"absent":        "",
	} {
		if got := in.Get(name); got != want {
			t.Errorf("Get(%q) = %q, want %q", name, got, want)
		}
	}
	if _, ok := in.Lookup("empty"); !ok {
		t.Error("a field with an empty value is not there")
	}
	if _, ok := in.Lookup("absent"); ok {
		t.Error("an absent field is there")
	}
	if n, ok := in.Int("twice"); n != 1 || !ok {
		t.Errorf("Int(twice) = %d, %v", n, ok)
	}
	if _, ok := in.Int("redis_version"); ok {
		t.Error("Int accepts 7.0.15")
	}
	if in.Len() != 5 {
		t.Errorf("Len() = %d, want 5", in.Len())
	}
	var got []string
	for name, value := range in.Section("keyspace") {
		got = append(got, name+"="+value)
	}
	if want := "db0=keys=1,expires=0 twice=1 twice=2"; strings.Join(got, " ") != want {
		t.Errorf("Section(keyspace) = %q, want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	sample, err := os.ReadFile("testdata/info-all-7.0.15.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(sample))
	f.Add("# A\r\nx:1\r\nx:2\n:\n#\n\x00:\xff")
	f.Fuzz(func(t *testing.T, text string) {
		in := info.Parse(text)
		n := 0
		for name, value := range in.All() {
			n++
			if name == "" || strings.ContainsAny(name, "\n:") || strings.Contains(value, "\n") {
				t.Fatalf("field %q = %q", name, value)
			}
			if _, ok := in.Lookup(name); !ok {
				t.Fatalf("Lookup(%q) does not find what All yields", name)
			}
		}
		if n != in.Len() {
			t.Fatalf("All yields %d fields, Len is %d", n, in.Len())
		}
	})
}

func BenchmarkParse(b *testing.B) {
	sample, err := os.ReadFile("testdata/info-all-7.0.15.txt")
	if err != nil {
		b.Fatal(err)
	}
	text := string(sample)
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		info.Parse(text)
	}
}

func TestParseIsBounded(t *testing.T) {
	in := info.Parse(strings.Repeat("a:1\n", 1<<20) + "b:2\n")
	if in.Len() != 1<<15 || in.Get("a") != "1" || in.Get("b") != "" {
		t.Errorf("%d fields, b is %q", in.Len(), in.Get("b"))
	}
}

func TestMode(t *testing.T) {
	for text, want := range map[string]string{
		"redis_mode:standalone\r\n":                     "standalone",
		"server_mode:sentinel\r\n":                      "sentinel", // Valkey 8
		"server_mode:cluster\r\nredis_mode:cluster\r\n": "cluster",
		"": "",
	} {
		if got := info.Parse(text).Mode(); got != want {
			t.Errorf("Mode of %q = %q, want %q", text, got, want)
		}
	}
}
