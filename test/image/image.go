package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// image is an image of one layer.
type image struct {
	ref, arch, user, entrypoint string

	labels map[string]string
	files  []file
}

// file is copied from the host to a path in the image, without leading slash.
// It keeps its executable bit and belongs to root, who does not run there. With a
// target it is a symbolic link instead.
type file struct{ from, to, target string }

// blob is a part of an image, named by its checksum.
type blob struct {
	content []byte
	digest  string // hexadecimal SHA-256
}

func newBlob(content []byte) blob {
	sum := sha256.Sum256(content)
	return blob{content, hex.EncodeToString(sum[:])}
}

func newJSON(v any) (blob, error) {
	content, err := json.Marshal(v) // maps are sorted by key
	return newBlob(content), err
}

// write writes the archive: an OCI layout, and beside it the manifest.json that
// older engines look for. Both name the same blobs.
func (img image) write(name string) error {
	layer, err := img.layer()
	if err != nil {
		return err
	}
	config, err := newJSON(img.config(layer))
	if err != nil {
		return err
	}
	manifest, err := newJSON(object{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.manifest.v1+json",
		"config":        describe("application/vnd.oci.image.config.v1+json", config),
		"layers":        []any{describe("application/vnd.oci.image.layer.v1.tar", layer)},
	})
	if err != nil {
		return err
	}
	inIndex := describe("application/vnd.oci.image.manifest.v1+json", manifest)
	inIndex["annotations"] = object{
		"io.containerd.image.name":          img.ref,
		"org.opencontainers.image.ref.name": img.ref[strings.LastIndex(img.ref, ":")+1:],
	}
	inIndex["platform"] = object{"architecture": img.arch, "os": "linux"}
	index, err := newJSON(object{
		"schemaVersion": 2,
		"mediaType":     "application/vnd.oci.image.index.v1+json",
		"manifests":     []any{inIndex},
	})
	if err != nil {
		return err
	}
	older, err := newJSON([]any{object{
		"Config":   config.path(),
		"RepoTags": []string{img.ref},
		"Layers":   []string{layer.path()},
	}})
	if err != nil {
		return err
	}

	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	t := tarball{w: tw}
	t.dir("blobs")
	t.dir("blobs/sha256")
	for _, b := range []blob{layer, config, manifest} {
		t.file(b.path(), 0o644, b.content)
	}
	t.file("index.json", 0o644, index.content)
	t.file("manifest.json", 0o644, older.content)
	t.file("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	if t.err != nil {
		return t.err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	return replaceFile(name, &archive)
}

// object is JSON in the making.
type object = map[string]any

func (b blob) path() string { return "blobs/sha256/" + b.digest }

func describe(mediaType string, b blob) object {
	return object{"mediaType": mediaType, "digest": "sha256:" + b.digest, "size": len(b.content)}
}

// config is what the engine runs.
func (img image) config(layer blob) object {
	run := object{"User": img.user, "WorkingDir": "/"}
	if img.entrypoint != "" {
		run["Entrypoint"] = []string{img.entrypoint}
	}
	if len(img.labels) > 0 {
		run["Labels"] = img.labels
	}
	epoch := time.Unix(0, 0).UTC().Format(time.RFC3339) // no time of building, or no two builds were the same
	return object{
		"created":      epoch,
		"architecture": img.arch,
		"os":           "linux",
		"config":       run,
		"rootfs":       object{"type": "layers", "diff_ids": []string{"sha256:" + layer.digest}},
		"history":      []any{object{"created": epoch}},
	}
}

// layer packs the files, sorted, with the directories above them.
func (img image) layer() (blob, error) {
	files := slices.Clone(img.files)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.to, b.to) })
	var content bytes.Buffer
	tw := tar.NewWriter(&content)
	t := tarball{w: tw}
	made := map[string]bool{".": true}
	var parents func(dir string)
	parents = func(dir string) {
		if made[dir] {
			return
		}
		parents(path.Dir(dir))
		made[dir] = true
		t.dir(dir)
	}
	for _, f := range files {
		if f.target != "" {
			parents(path.Dir(f.to))
			t.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: f.to, Linkname: f.target, Mode: 0o777}, nil)
			continue
		}
		st, err := os.Stat(f.from)
		if err != nil {
			return blob{}, err
		}
		data, err := os.ReadFile(f.from)
		if err != nil {
			return blob{}, err
		}
		mode := int64(0o444)
		if st.Mode()&0o111 != 0 {
			mode = 0o555
		}
		parents(path.Dir(f.to))
		t.file(f.to, mode, data)
	}
	if t.err != nil {
		return blob{}, t.err
	}
	if err := tw.Close(); err != nil {
		return blob{}, err
	}
	return newBlob(content.Bytes()), nil
}

// tarball writes entries without owner and time; err is the first error.
type tarball struct {
	w   *tar.Writer
	err error
}

func (t *tarball) dir(name string) {
	t.add(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, nil)
}

func (t *tarball) file(name string, mode int64, content []byte) {
	t.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, content)
}

func (t *tarball) add(h *tar.Header, content []byte) {
	if t.err != nil {
		return
	}
	h.ModTime = time.Unix(0, 0)
	h.Format = tar.FormatUSTAR
	if t.err = t.w.WriteHeader(h); t.err == nil {
		_, t.err = t.w.Write(content)
	}
}

// replaceFile writes name whole or not at all.
func replaceFile(name string, r io.Reader) error {
	temp := name + ".tmp"
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
