package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dirWatch tells which names come, go and are renamed in one directory. It uses
// inotify directly because a rename has to be recognised as one event with two
// names, which fsnotify does not offer.
type dirWatch struct {
	f   *os.File
	buf []byte
}

func watchDir(dir string) (*dirWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_ONLYDIR); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("inotify: watch %s: %w", dir, err)
	}
	return &dirWatch{f: f, buf: make([]byte, 16<<10)}, nil
}

// next returns the events that are there, waiting up to d for the first; none
// when there was none in time.
func (w *dirWatch) next(d time.Duration) ([]dirEvent, error) {
	if err := w.f.SetReadDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	n, err := w.f.Read(w.buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var events []dirEvent
	for b := w.buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		mask := binary.NativeEndian.Uint32(b[4:])
		cookie := binary.NativeEndian.Uint32(b[8:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if size > len(b) {
			break // the kernel does not split events
		}
		if mask&(unix.IN_Q_OVERFLOW|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
			return nil, errors.New("inotify: events were lost")
		}
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00")
		switch {
		case mask&unix.IN_CREATE != 0:
			events = append(events, dirEvent{created, name, cookie})
		case mask&unix.IN_MOVED_FROM != 0:
			events = append(events, dirEvent{movedFrom, name, cookie})
		case mask&unix.IN_MOVED_TO != 0:
			events = append(events, dirEvent{movedTo, name, cookie})
		}
		b = b[size:]
	}
	return events, nil
}

// drain throws away the events that are there.
func (w *dirWatch) drain() error {
	for {
		events, err := w.next(time.Millisecond)
		if err != nil || len(events) == 0 {
			return err
		}
	}
}

func (w *dirWatch) close() { _ = w.f.Close() } // nothing is written to it
