package backup

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ownership is who may use the restored files.
//
// By default they get the owner and group of the data directory, and the access
// that the directory gives to its owner and its group. Others get nothing, unless
// the directory lets everybody write: then it guards nothing, and the server may
// run under any uid. So files in a directory of mode 0700 are 0600, in one of
// mode 2775 (a Kubernetes fsGroup) 0660.
type ownership struct {
	uid, gid int  // -1: leave as it is
	must     bool // failing to give them away is an error
	chosen   bool // the owner was named by the options
	fileMode fs.FileMode
	dirMode  fs.FileMode
	dirUID   int // owner of the data directory
}

func ownerFor(opts RestoreOptions, dir dataDir) (ownership, error) {
	st, ok := dir.info.Sys().(*syscall.Stat_t)
	if !ok {
		return ownership{}, fmt.Errorf("owner of %s is not known on this system", opts.Dir)
	}
	perm := dir.info.Mode().Perm()
	if perm&0o002 == 0 {
		perm &^= 0o007
	}
	o := ownership{
		uid: int(st.Uid), gid: int(st.Gid), dirUID: int(st.Uid),
		fileMode: perm&0o666 | 0o600,
		dirMode:  perm | 0o700 | dir.info.Mode()&fs.ModeSetgid,
		must:     os.Geteuid() == 0,
	}
	if os.Geteuid() != 0 {
		o.uid = -1
	}
	if opts.UID != nil {
		o.uid, o.must, o.chosen = *opts.UID, true, true
	}
	if opts.GID != nil {
		o.gid, o.must, o.chosen = *opts.GID, true, true
	}
	if opts.Mode != 0 {
		// Who may read a file may enter its directory; who may write one may
		// make others.
		o.fileMode = opts.Mode
		o.dirMode = opts.Mode | opts.Mode&0o444>>2 | dir.info.Mode()&fs.ModeSetgid
	}
	return o, nil
}

// file hands a file over. The owner changes first: chown clears mode bits.
func (o ownership) file(path string) error { return o.give(path, o.fileMode) }

// dir hands a directory over.
func (o ownership) dir(path string) error { return o.give(path, o.dirMode) }

func (o ownership) give(path string, mode fs.FileMode) error {
	if o.uid != -1 || o.gid != -1 {
		// Without root, a group that this process is not in cannot be given;
		// then the files keep its own, and warning says what that means.
		if err := os.Chown(path, o.uid, o.gid); err != nil && o.must {
			return diskError(fmt.Sprintf("give %s to uid %d, gid %d", path, o.uid, o.gid), err)
		}
	}
	if err := os.Chmod(path, mode); err != nil {
		return diskError("set mode", err)
	}
	return nil
}

// warning says why the server may be unable to use the files, or "". The server
// must be somebody who may write to the data directory.
func (o ownership) warning() string {
	uid := o.uid
	if uid == -1 {
		uid = os.Geteuid()
	}
	if o.chosen || uid == o.dirUID || o.dirMode&0o022 != 0 {
		return ""
	}
	return fmt.Sprintf("they will belong to uid %d, but only uid %d may write to the directory", uid, o.dirUID)
}

// String says who gets the files, and with which access, for people.
func (o ownership) String() string {
	uid, gid := o.uid, o.gid
	if uid == -1 {
		uid = os.Geteuid()
	}
	return fmt.Sprintf("uid %d, gid %d, files %04o, directory %04o", uid, gid, o.fileMode.Perm(), o.dirMode.Perm())
}
