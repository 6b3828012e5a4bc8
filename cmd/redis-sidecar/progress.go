package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/human"
)

// progressLine shows how far a long command is: redrawn in place on a terminal,
// elsewhere as a log line at each new phase and every few seconds.
type progressLine struct {
	e     *env
	log   *slog.Logger
	what  string
	start time.Time

	phase string
	at    time.Time // of the last line
	width int       // of the last line on the terminal
}

const (
	terminalEvery = 100 * time.Millisecond
	logEvery      = 5 * time.Second
)

func newProgressLine(e *env, log *slog.Logger, what string) *progressLine {
	return &progressLine{e: e, log: log, what: what, start: time.Now()}
}

// show prints the phase and how far it is, if it is time to.
func (p *progressLine) show(phase, text string) {
	now := time.Now()
	every := logEvery
	if p.e.terminal {
		every = terminalEvery
	}
	if phase == p.phase && now.Sub(p.at) < every {
		return
	}
	p.phase, p.at = phase, now
	if !p.e.terminal {
		attrs := []any{"of", p.what, "phase", phase}
		if text = strings.TrimSpace(text); text != "" {
			attrs = append(attrs, "done", text)
		}
		p.log.Info("progress", append(attrs, "elapsed", time.Since(p.start).Round(time.Second).String())...)
		return
	}
	line := fmt.Sprintf("%s: %s %s", p.what, phase, text)
	pad := max(0, p.width-len(line))
	p.width = len(line)
	fmt.Fprintf(p.e.stderr, "\r%s%s", line, strings.Repeat(" ", pad))
}

// done wipes the line off the terminal.
func (p *progressLine) done() {
	if p.e.terminal && p.width > 0 {
		fmt.Fprintf(p.e.stderr, "\r%s\r", strings.Repeat(" ", p.width))
	}
}

// backupProgress describes the progress of a snapshot or a verification.
func (p *progressLine) backupProgress(b backup.Progress) {
	done := b.Stored
	if b.Phase == backup.PhaseSave {
		done = b.Plain
	}
	text := human.Bytes(done)
	if b.Total > 0 {
		text += fmt.Sprintf(" of %s (%d%%)", human.Bytes(b.Total), min(100, 100*done/b.Total))
	}
	p.show(string(b.Phase), text)
}

// seconds prints a duration given in seconds: 1.25 s.
func seconds(s float64) string { return fmt.Sprintf("%.2f s", s) }
