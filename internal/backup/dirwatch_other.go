//go:build !linux

package backup

import (
	"errors"
	"time"
)

// dirWatch exists on Linux only; elsewhere the directory is polled.
type dirWatch struct{}

func watchDir(string) (*dirWatch, error) { return nil, errors.ErrUnsupported }

func (*dirWatch) next(time.Duration) ([]dirEvent, error) { return nil, errors.ErrUnsupported }
func (*dirWatch) drain() error                           { return errors.ErrUnsupported }
func (*dirWatch) close()                                 {}
