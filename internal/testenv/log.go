package testenv

import (
	"bytes"
	"sync"
)

// Log is a writer that a test reads while others write to it. It keeps the last
// 64 KiB.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const logLimit = 64 << 10

// Write appends p.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	if over := l.buf.Len() - logLimit; over > 0 {
		l.buf.Next(over)
	}
	return len(p), nil
}

// String returns what was written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
