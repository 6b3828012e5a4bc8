package backup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Tests that need file systems or a user of their own run again in a child.

const childEnv = "RESTORE_TEST_CHILD"

// inChild runs the calling test once more in a child with the given attributes.
// It returns true in that child, and false, when the child has passed, outside.
func inChild(t *testing.T, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return true
	}
	child := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	child.Dir = os.TempDir()
	child.Env = append(os.Environ(), childEnv+"=1")
	child.SysProcAttr = attr
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in the child: %v\n%s", err, out)
	}
	return false
}

// ownMounts are the attributes of a child whose mounts nobody else sees. Without
// root it is root in a user namespace.
func ownMounts() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// mountTmpfs mounts a file system of a size in bytes; it ends with the child.
func mountTmpfs(t *testing.T, size string) string {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		t.Fatalf("make mounts private: %v", err)
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestRestoreOntoAFullDisk(t *testing.T) {
	if !inChild(t, ownMounts()) {
		return
	}
	r := newRestorable(t)
	// Room for one copy of the dump, not for two.
	dir := mountTmpfs(t, "1300k")
	nothingLeft := func(except ...string) {
		t.Helper()
		if left := tree(t, dir); strings.Join(left, " ") != strings.Join(except, " ") {
			t.Errorf("left %v", left)
		}
	}

	// Known before: the copy that a server before Redis 7 needs is too much.
	big := r.add(t, r.m.CreatedAt.Add(1e9), CompressionZstd, func(m *Manifest) {
		m.Server.Version = "6.2.14"
		m.RDB.Size = 600 << 10
	})
	write(t, strings.Repeat("x", 10<<10), dir, "temp-42.rdb")
	_, _, err := r.restore(t, RestoreOptions{Dir: dir, From: big.ID})
	checkError(t, err, status.ReasonDiskFull, dir+" has 1.3 MiB free, the restore needs 2.2 MiB (2 × 600.0 KiB and a little)",
		"make the volume larger or remove files from it; temp-42.rdb (10.0 KiB) is a leftover of a killed server")
	_, _, err = r.restore(t, RestoreOptions{Dir: dir, From: big.ID, DryRun: true})
	checkError(t, err, status.ReasonDiskFull, "the restore needs 2.2 MiB", "")
	nothingLeft("temp-42.rdb")

	// Found midway, in the download and in each thing written after it: somebody
	// else fills the disk meanwhile.
	for _, at := range []string{"made", "downloading", "downloaded", "staged"} {
		filler := filepath.Join(dir, "filler")
		_, _, err = r.restore(t, RestoreOptions{Dir: dir, From: r.m.ID, step: func(step string) {
			if step == at {
				fill(t, filler)
			}
		}})
		checkError(t, err, status.ReasonDiskFull, "no space left on device", "make the volume larger")
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		nothingLeft("temp-42.rdb")
	}
	r.mustRestore(t, RestoreOptions{Dir: dir, From: r.m.ID})
	r.loads(t, dir, "--appendonly", "yes")
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !strings.Contains(err.Error(), "no space left") {
		t.Fatal(err)
	}
}

func TestRestoreOntoAReadOnlyVolume(t *testing.T) {
	if !inChild(t, ownMounts()) {
		return
	}
	r := newRestorable(t)
	dir := mountTmpfs(t, "1m")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, _, err := r.restore(t, RestoreOptions{Dir: dir})
	checkError(t, err, status.ReasonFile, "restore: make working directory: mkdir "+dir+"/.redis-sidecar-restore: read-only file system", "mount the volume writable")
}

// asNobody are the attributes of a child that is not root.
func asNobody() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	return attr
}

func TestRestoreAsAnOrdinaryUser(t *testing.T) {
	if !inChild(t, asNobody()) {
		return
	}
	r := newRestorable(t)

	t.Run("own directory", func(t *testing.T) {
		dir := t.TempDir()
		r.mustRestore(t, RestoreOptions{Dir: dir})
		server := startIn(t, dir, "--appendonly", "yes")
		r.holds(t, server)
	})
	t.Run("directory that cannot be written to", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		_, _, err := r.restore(t, RestoreOptions{Dir: dir})
		checkError(t, err, status.ReasonFile, "make working directory: mkdir "+dir+"/.redis-sidecar-restore: permission denied", "run it as the server's uid, or as root")
	})
	t.Run("directory that cannot be read", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o300); err != nil {
			t.Fatal(err)
		}
		_, _, err := r.restore(t, RestoreOptions{Dir: dir})
		checkError(t, err, status.ReasonFile, "open data directory: open "+dir+": permission denied", "run it as the server's uid, or as root")
	})
	t.Run("directory in it that cannot be read", func(t *testing.T) {
		dir := t.TempDir()
		closed := filepath.Join(dir, "appendonlydir")
		if err := os.Mkdir(closed, 0); err != nil {
			t.Fatal(err)
		}
		_, _, err := r.restore(t, RestoreOptions{Dir: dir})
		checkError(t, err, status.ReasonFile, "cannot tell whether the directory holds data: look for data: open "+closed+": permission denied", "run it as the server's uid, or as root")
	})
	t.Run("data that cannot be read", func(t *testing.T) {
		dir := t.TempDir()
		write(t, "REDIS", dir, "dump.rdb")
		if err := os.Chmod(filepath.Join(dir, "dump.rdb"), 0); err != nil {
			t.Fatal(err)
		}
		result, _, err := r.restore(t, RestoreOptions{Dir: dir})
		if err != nil || result.Skipped != "the directory holds data: dump.rdb" {
			t.Errorf("%+v, %v", result, err)
		}
	})
	t.Run("files for somebody else", func(t *testing.T) {
		dir := t.TempDir()
		_, _, err := r.restore(t, RestoreOptions{Dir: dir, UID: new(999)})
		checkError(t, err, status.ReasonFile, "to uid 999, gid ", "run it as the server's uid, or as root")
		wantNoFiles(t, dir)
	})
}

func TestRestoreAsRootGivesTheFilesAway(t *testing.T) {
	attr := ownMounts() // root there, if not here
	if !inChild(t, attr) {
		return
	}
	r := newRestorable(t)
	owner := func(path string) [2]uint32 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		return [2]uint32{st.Uid, st.Gid}
	}
	// Other ids than its own exist for the real root only.
	uid, gid := 4711, 4712
	if b, err := os.ReadFile("/proc/self/uid_map"); err != nil || !strings.HasSuffix(strings.TrimSpace(string(b)), "4294967295") {
		uid, gid = 0, 0
	}
	byDir, byOption := t.TempDir(), t.TempDir()
	if err := os.Chown(byDir, uid, gid); err != nil {
		t.Fatal(err)
	}
	r.mustRestore(t, RestoreOptions{Dir: byDir})
	r.mustRestore(t, RestoreOptions{Dir: byOption, UID: &uid, GID: &gid})
	for _, dir := range []string{byDir, byOption} {
		for _, name := range []string{"dump.rdb", "appendonlydir", "appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.manifest"} {
			if got, want := owner(filepath.Join(dir, name)), [2]uint32{uint32(uid), uint32(gid)}; got != want {
				t.Errorf("%s belongs to %v, want %v", name, got, want)
			}
		}
	}
}

func TestRestoreWarnsOfFilesTheServerCannotUse(t *testing.T) {
	for _, test := range []struct {
		name  string
		owner ownership
		want  string
	}{
		{"of the directory's owner", ownership{uid: 999, dirUID: 999, dirMode: 0o700}, ""},
		{"for a group that may write", ownership{uid: 65532, dirUID: 0, dirMode: 0o770}, ""},
		{"as the options said", ownership{uid: 65532, dirUID: 999, dirMode: 0o700, chosen: true}, ""},
		{"of another", ownership{uid: 65532, dirUID: 999, dirMode: 0o750}, "they will belong to uid 65532, but only uid 999 may write to the directory"},
	} {
		if got := test.owner.warning(); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
