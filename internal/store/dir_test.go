package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// pin checks the text, the reason and the hint of an error.
func pin(t *testing.T, err error, text string, reason status.Reason, hint string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want %s", text)
		return
	}
	if err.Error() != text {
		t.Errorf("error:\n got %s\nwant %s", err, text)
	}
	if got := status.ReasonOf(err); got != reason {
		t.Errorf("%v: got reason %s, want %s", err, got, reason)
	}
	if got := status.HintOf(err); got != hint {
		t.Errorf("%v: hint:\n got %s\nwant %s", err, got, hint)
	}
}

func TestDirModes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "file://"+dir, Options{})
	put(t, s, "a/b/key", strings.NewReader("x"))
	for name, want := range map[string]fs.FileMode{"a": 0o700 | fs.ModeDir, "a/b": 0o700 | fs.ModeDir, "a/b/key": 0o600} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode() != want {
			t.Errorf("%s: got %s, want %s", name, st.Mode(), want)
		}
	}
	// Nothing is left when the last object goes.
	if err := s.Delete(t.Context(), "a/b/key"); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestDirMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	s := open(t, "file://"+dir, Options{})
	hint := "make the directory " + dir + ", or mount the volume there"
	_, err := s.Put(t.Context(), "a/key", strings.NewReader("x"))
	pin(t, err, "put a/key in file://"+dir+": the directory does not exist", status.ReasonStoreMissing, hint)
	_, err = s.Stat(t.Context(), "a/key")
	pin(t, err, "stat a/key in file://"+dir+": the directory does not exist", status.ReasonStoreMissing, hint)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("a missing store looks like a missing object")
	}
	err = s.List(t.Context(), "", func(string, int64, time.Time) error { return nil })
	pin(t, err, "list in file://"+dir+": the directory does not exist", status.ReasonStoreMissing, hint)

	// A volume that is mounted later is seen.
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a/key", strings.NewReader("x"))
}

func TestDirFull(t *testing.T) {
	dir := t.TempDir()
	s := open(t, "file://"+dir, Options{}).(*Dir)
	put(t, s, "old", strings.NewReader("x"))
	create := s.create
	s.create = func(root *os.Root, name string) (*os.File, error) {
		f, err := create(root, name)
		if err != nil {
			return nil, err
		}
		f.Close()
		return os.OpenFile("/dev/full", os.O_WRONLY, 0) // every write: no space left on device
	}
	_, err := s.Put(t.Context(), "a/key", noise(1, 1<<20))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	pin(t, err, "put a/key in file://"+dir+": no space left on device", status.ReasonDiskFull, "make room in "+dir+", or lower backup.retention")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "old" {
		t.Errorf("got %v, %v, want old alone", entries, err)
	}
}

func TestDirErrors(t *testing.T) {
	d := newDir("/backups")
	for cause, want := range map[error]struct {
		reason status.Reason
		hint   string
	}{
		syscall.EDQUOT: {status.ReasonDiskFull, "make room in /backups, or lower backup.retention"},
		syscall.EROFS:  {status.ReasonStoreDenied, "mount /backups writable"},
		syscall.EACCES: {status.ReasonStoreDenied, fmt.Sprintf("let the user with uid %d read and write /backups", os.Geteuid())},
		syscall.EIO:    {status.ReasonStore, ""},
	} {
		err := d.error("put", "key", &fs.PathError{Op: "openat", Path: "key", Err: cause})
		pin(t, err, "put key in file:///backups: "+cause.Error(), want.reason, want.hint)
	}
}

// Whatever links the directory holds, nothing outside of it is read, written,
// listed or removed.
func TestDirSymlinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"file": secret, "dir": outside, "up": ".."} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, "file://"+dir, Options{})
	for _, key := range []string{"file", "dir/secret", "fifo"} {
		if r, _, err := s.Get(t.Context(), key); err == nil {
			r.Close()
			t.Errorf("get %s worked", key)
		}
		_ = s.Delete(t.Context(), key)
	}
	for _, key := range []string{"dir/new", "dir/secret", "up/new"} {
		if _, err := s.Put(t.Context(), key, strings.NewReader("x")); err == nil {
			t.Errorf("put %s worked", key)
		}
	}
	if got := list(t, s, ""); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	put(t, s, "file", strings.NewReader("replaces the link, not its target"))
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside: %q, %v", b, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

// A reader opened before the object is replaced or deleted keeps its bytes.
func TestDirReaderKeepsObject(t *testing.T) {
	s := open(t, "file://"+t.TempDir(), Options{})
	put(t, s, "key", strings.NewReader("first"))
	r, _, err := s.Get(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(t, s, "key", strings.NewReader("second"))
	if b, err := io.ReadAll(r); err != nil || string(b) != "first" {
		t.Errorf("got %q, %v", b, err)
	}
}

// A file that changes while it is read yields the size that was told, or an error.
func TestDirGetOfChanging(t *testing.T) {
	for name, test := range map[string]struct {
		size int64 // of the file, when it is read
		want error
	}{
		"as it was": {10, nil},
		"longer":    {1000, nil},
		"shorter":   {9, io.ErrUnexpectedEOF},
		"empty":     {0, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			d := open(t, "file://"+root, Options{})
			put(t, d, "key", strings.NewReader("0123456789"))
			r, size, err := d.Get(t.Context(), "key")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := os.Truncate(filepath.Join(root, "key"), test.size); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if !errors.Is(err, test.want) || err == nil && int64(len(got)) != size {
				t.Errorf("%d bytes of %d, %v", len(got), size, err)
			}
		})
	}
}
