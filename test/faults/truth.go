package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// markerKey holds the name of the moment that the data is of: one for each
// BGSAVE, and "after" of it for all that comes later.
const markerKey = "faults:moment"

// truth is a proxy between the sidecar and redis-server that knows what a
// snapshot has to hold. Into the write that BGSAVE is in it puts a marker and
// DEBUG DIGEST right before it and another marker right behind it. The server
// does all of them at one go, so the digest is that of the data at the fork.
type truth struct {
	addr   string
	target string

	mu      sync.Mutex
	moments map[string]string // marker → digest
	// Where no marker can be written: digest → number of the save.
	unmarked map[string]int
	asked    int
	hook     func(command string, answered bool)
	conns    map[net.Conn]struct{}
}

func startTruth(t *trial, target string) *truth {
	tr := &truth{target: target, moments: map[string]string{}, unmarked: map[string]int{}, conns: map[net.Conn]struct{}{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr.addr = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { tr.serve(t, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		tr.mu.Lock()
		for c := range tr.conns {
			_ = c.Close()
		}
		tr.mu.Unlock()
		wg.Wait()
	})
	return tr
}

// at sets what is called before a command is passed on, and again before its
// reply is. The name is in upper case.
func (tr *truth) at(hook func(command string, answered bool)) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.hook = hook
}

func (tr *truth) call(command string, answered bool) {
	tr.mu.Lock()
	hook := tr.hook
	tr.mu.Unlock()
	if hook != nil {
		hook(command, answered)
	}
}

// check makes sure that data with this marker and digest is that of a save that
// was asked for after the first so many.
func (tr *truth) check(marker, digest string, after int) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if n, ok := tr.unmarked[digest]; ok && n > after {
		return nil
	}
	want, ok := tr.moments[marker]
	switch n, err := strconv.Atoi(strings.TrimPrefix(marker, "save ")); {
	case !ok:
		return fmt.Errorf("the data is of another moment: %q", marker)
	case err == nil && n <= after:
		return fmt.Errorf("the data is of an earlier save: %q, asked for after %d", marker, after)
	case digest != want:
		return fmt.Errorf("the digest is %s, at the moment of %q it was %s", digest, marker, want)
	}
	return nil
}

// saves returns how many saves were asked for.
func (tr *truth) saves() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.asked
}

func (tr *truth) serve(t *trial, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", tr.target)
	if err != nil {
		return
	}
	defer server.Close()
	tr.mu.Lock()
	tr.conns[client], tr.conns[server] = struct{}{}, struct{}{}
	tr.mu.Unlock()
	defer func() {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		delete(tr.conns, client)
		delete(tr.conns, server)
	}()
	replies := make(chan expected, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer client.Close()
		tr.answers(client, bufio.NewReaderSize(server, 64<<10), replies)
	})
	tr.commands(t, bufio.NewReaderSize(client, 64<<10), server, replies)
	_ = server.Close()
	wg.Wait()
}

// expected is a reply that has to come.
type expected struct {
	command string
	mine    func(frame []byte) // for a command that the client did not send: it does not get the reply
	raw     bool               // replication: all that follows is no reply
}

// commands passes on what the client sends, what comes at once in one write.
func (tr *truth) commands(t *trial, from *bufio.Reader, to net.Conn, replies chan<- expected) {
	defer close(replies)
	for {
		var batch bytes.Buffer
		for more := true; more; more = from.Buffered() > 0 {
			args, err := readCommand(from)
			if err != nil {
				return
			}
			command := strings.ToUpper(args[0])
			tr.call(command, false)
			switch command {
			case "BGSAVE":
				tr.mark(t, &batch, args, replies)
			case "SYNC", "PSYNC":
				writeCommand(&batch, args...)
				replies <- expected{command: command, raw: true}
			default:
				writeCommand(&batch, args...)
				replies <- expected{command: command}
			}
		}
		if _, err := to.Write(batch.Bytes()); err != nil {
			return
		}
	}
}

// mark puts BGSAVE and its marks into a batch.
func (tr *truth) mark(t *trial, batch *bytes.Buffer, args []string, replies chan<- expected) {
	tr.mu.Lock()
	tr.asked++
	marker := fmt.Sprintf("save %d", tr.asked)
	tr.mu.Unlock()
	digest, refused := "", false
	writeCommand(batch, "SET", markerKey, marker)
	replies <- expected{command: "SET", mine: func(frame []byte) { refused = frame[0] == '-' }}
	writeCommand(batch, "DEBUG", "DIGEST")
	replies <- expected{command: "DEBUG", mine: func(frame []byte) { digest = strings.TrimSpace(strings.TrimPrefix(string(frame), "+")) }}
	writeCommand(batch, args...)
	replies <- expected{command: "BGSAVE"}
	writeCommand(batch, "SET", markerKey, "after "+marker)
	replies <- expected{command: "SET", mine: func([]byte) {
		if len(digest) != 40 {
			t.Errorf("DEBUG DIGEST: %q", digest)
			return
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if refused { // by a replica
			tr.unmarked[digest] = tr.asked
			return
		}
		tr.moments[marker] = digest // a refused BGSAVE adds one that nothing is of
	}}
}

// answers passes on the replies.
func (tr *truth) answers(to net.Conn, from *bufio.Reader, replies <-chan expected) {
	for {
		var frame bytes.Buffer
		first, err := from.Peek(1)
		if err != nil {
			return
		}
		if first[0] == '>' { // a push answers nothing
			if readFrame(from, &frame) != nil {
				return
			}
			if _, err := to.Write(frame.Bytes()); err != nil {
				return
			}
			continue
		}
		e, ok := <-replies
		if !ok {
			return
		}
		if e.raw {
			_, _ = io.Copy(to, from)
			return
		}
		if readFrame(from, &frame) != nil {
			return
		}
		if e.mine != nil {
			e.mine(frame.Bytes())
			continue
		}
		tr.call(e.command, true)
		if _, err := to.Write(frame.Bytes()); err != nil {
			return
		}
	}
}

// readCommand reads an array of bulk strings.
func readCommand(r *bufio.Reader) ([]string, error) {
	var frame bytes.Buffer
	if err := readFrame(r, &frame); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(&frame)
	head, err := lines.ReadString('\n')
	if err != nil || head[0] != '*' {
		return nil, fmt.Errorf("not a command: %q", head)
	}
	n, err := strconv.Atoi(strings.TrimSpace(head[1:]))
	if err != nil || n < 1 {
		return nil, fmt.Errorf("not a command: %q", head)
	}
	args := make([]string, n)
	for i := range args {
		head, err := lines.ReadString('\n')
		if err != nil || head[0] != '$' {
			return nil, fmt.Errorf("not an argument: %q", head)
		}
		size, err := strconv.Atoi(strings.TrimSpace(head[1:]))
		if err != nil {
			return nil, err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(lines, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:size])
	}
	return args, nil
}

func writeCommand(w *bytes.Buffer, args ...string) {
	fmt.Fprintf(w, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(a), a)
	}
}

// readFrame copies one value of RESP2 or RESP3.
func readFrame(r *bufio.Reader, w *bytes.Buffer) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return err
	}
	if len(line) < 3 {
		return errors.New("not RESP")
	}
	w.Write(line)
	text := strings.TrimSpace(string(line[1:]))
	switch line[0] {
	case '+', '-', ':', '_', ',', '#', '(':
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return err
	}
	switch line[0] {
	case '$', '=', '!':
		if n < 0 {
			return nil
		}
		_, err := io.CopyN(w, r, n+2)
		return err
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	default:
		return fmt.Errorf("not RESP: %q", line)
	}
	for range n {
		if err := readFrame(r, w); err != nil {
			return err
		}
	}
	if line[0] == '|' { // attributes come before the value
		return readFrame(r, w)
	}
	return nil
}
