package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// configAll is the one CONFIG GET that is recorded: which parameters a scrape
// asks for changes, what the server has does not.
const configAll = "CONFIG GET *"

// recording is what a server said.
type recording struct {
	info    string
	replies map[string]any // by command line
	err     error          // why it is not whole
}

// take records one scrape of the exporter, and then what a scrape with other
// settings would ask.
func take(ctx context.Context, server exporter.Server, master string) (*recording, error) {
	rec := &recording{replies: make(map[string]any)}
	tap := &tap{server: server, rec: rec}
	board := status.NewBoard(slog.New(slog.DiscardHandler), nil)
	exporter.New(tap, board.Register(status.Exporter, exporter.Reasons()...), exporter.Options{}).Scrape(ctx)
	if rec.err == nil && rec.info == "" {
		rec.err = errors.New("the server did not answer INFO ALL")
	}
	if rec.err != nil {
		return nil, rec.err
	}
	for _, command := range further(rec.info, master) {
		if _, err := tap.Pipeline(ctx, command); err != nil {
			return nil, err
		}
	}
	return rec, rec.err
}

// further returns the commands that only some settings ask for. Which of them
// the server knows is its own affair.
func further(text, master string) [][]string {
	lines := []string{"INFO MODULES", "MODULE LIST", "CLIENT LIST"}
	if info.Parse(text).Mode() == "sentinel" {
		lines = append(lines, "SENTINEL MASTERS", "SENTINEL CKQUORUM "+master, "SENTINEL SENTINELS "+master,
			"SENTINEL SLAVES "+master, "SENTINEL CONFIG GET *")
	} else {
		lines = append(lines, configAll, "SLOWLOG GET 128", "COMMANDLOG LEN slow", "COMMANDLOG LEN large-request",
			"COMMANDLOG LEN large-reply", "CLUSTER INFO", "CLUSTER NODES", "CLUSTER LINKS")
	}
	out := make([][]string, len(lines))
	for i, line := range lines {
		out[i] = strings.Fields(line)
	}
	return out
}

// tap is a server that has its replies written down.
type tap struct {
	server exporter.Server
	rec    *recording
}

func (t *tap) Pipeline(ctx context.Context, commands ...[]string) ([]any, error) {
	replies, err := t.server.Pipeline(ctx, commands...)
	if err != nil {
		t.rec.err = err
		return nil, err
	}
	for i, command := range commands {
		t.rec.note(strings.Join(command, " "), replies[i])
	}
	return replies, nil
}

func (r *recording) note(line string, reply any) {
	if strings.HasPrefix(line, "CONFIG GET ") && line != configAll {
		return // the replay answers it from all parameters
	}
	switch reply := reply.(type) {
	case error:
		// Unknown to this server, or to one in this mode.
	case string:
		if line == "INFO ALL" {
			r.info = reply
			return
		}
		r.replies[line] = reply
	case nil, int64, []any:
		r.replies[line] = reply
	default:
		r.err = fmt.Errorf("%s: reply of type %T", line, reply)
	}
}
