package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// build writes an image of two files and returns the archive.
func build(t *testing.T, touch time.Time) []byte {
	t.Helper()
	dir := t.TempDir()
	program, bundle := filepath.Join(dir, "program"), filepath.Join(dir, "bundle")
	for path, mode := range map[string]os.FileMode{program: 0o755, bundle: 0o640} {
		if err := os.WriteFile(path, []byte("content of "+filepath.Base(path)), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, touch, touch); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "image.tar")
	err := run([]string{
		"-o", out, "-ref", "registry.test:5000/some/image:v1", "-arch", "arm64", "-entrypoint", "/program",
		"-label", "b=2", "-label", "a=1", "-link", "/other=program", program + ":/program", bundle + ":/etc/ssl/certs/ca-certificates.crt",
	})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

func TestReproducible(t *testing.T) {
	first, second := build(t, time.Unix(1e9, 0)), build(t, time.Unix(2e9, 0))
	if !bytes.Equal(first, second) {
		t.Error("two builds of the same files differ")
	}
}

func TestArchive(t *testing.T) {
	entries := untar(t, build(t, time.Now()))
	for name, e := range entries {
		digest, isBlob := strings.CutPrefix(name, "blobs/sha256/")
		if sum := sha256.Sum256(e.content); isBlob && digest != "" && hex.EncodeToString(sum[:]) != digest {
			t.Errorf("%s does not have the checksum that names it", name)
		}
	}
	digest := func(v any) string { return "blobs/sha256/" + strings.TrimPrefix(v.(string), "sha256:") }

	// The way of the OCI layout: index, manifest, config and layer.
	index := parse[map[string]any](t, entries["index.json"])
	inIndex := index["manifests"].([]any)[0].(map[string]any)
	if got := inIndex["annotations"].(map[string]any)["io.containerd.image.name"]; got != "registry.test:5000/some/image:v1" {
		t.Errorf("got name %v", got)
	}
	manifest := parse[map[string]any](t, entries[digest(inIndex["digest"])])
	configPath := digest(manifest["config"].(map[string]any)["digest"])
	layerPath := digest(manifest["layers"].([]any)[0].(map[string]any)["digest"])

	// The way of docker's manifest.json leads to the same.
	older := parse[[]map[string]any](t, entries["manifest.json"])[0]
	want := map[string]any{"Config": configPath, "Layers": []any{layerPath}, "RepoTags": []any{"registry.test:5000/some/image:v1"}}
	if diff := cmp.Diff(want, older); diff != "" {
		t.Errorf("manifest.json (-want +got):\n%s", diff)
	}

	config := parse[map[string]any](t, entries[configPath])
	wantRun := map[string]any{
		"User": "65532:65532", "WorkingDir": "/", "Entrypoint": []any{"/program"},
		"Labels": map[string]any{"a": "1", "b": "2"},
	}
	if diff := cmp.Diff(wantRun, config["config"]); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if config["architecture"] != "arm64" {
		t.Errorf("got architecture %v, want arm64", config["architecture"])
	}

	var got []string
	for name, e := range untar(t, entries[layerPath].content) {
		got = append(got, fmt.Sprintf("%#o %d:%d %s %s%s", e.header.Mode, e.header.Uid, e.header.Gid, name, e.header.Linkname, e.content))
	}
	slices.SortFunc(got, func(a, b string) int { return strings.Compare(strings.Fields(a)[2], strings.Fields(b)[2]) })
	wantLayer := []string{
		"0755 0:0 etc/ ",
		"0755 0:0 etc/ssl/ ",
		"0755 0:0 etc/ssl/certs/ ",
		"0444 0:0 etc/ssl/certs/ca-certificates.crt content of bundle",
		"0777 0:0 other program",
		"0555 0:0 program content of program",
	}
	if diff := cmp.Diff(wantLayer, got); diff != "" {
		t.Errorf("layer (-want +got):\n%s", diff)
	}
}

func TestBadArguments(t *testing.T) {
	out := filepath.Join(t.TempDir(), "image.tar")
	for _, args := range [][]string{
		{"-o", out, "-ref", "x:1"},
		{"-ref", "x:1", "a:/b"},
		{"-o", out, "-ref", "x:1", "a"},
		{"-o", out, "-ref", "x:1", "-link", "a=b", "go.mod:/a"},
		{"-o", out, "-ref", "x:1", "/does/not/exist:/a"},
	} {
		if err := run(args); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("an archive was written")
	}
}

type entry struct {
	header  *tar.Header
	content []byte
}

func untar(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	entries := map[string]entry{}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		entries[h.Name] = entry{h, content}
	}
}

func parse[T any](t *testing.T, e entry) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(e.content, &v); err != nil {
		t.Fatalf("%s: %v", e.content, err)
	}
	return v
}
