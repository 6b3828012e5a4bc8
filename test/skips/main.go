// Command skips runs go test and lets no test be skipped in silence.
//
//	go run ./test/skips [-allow file] -- [go test's flags] [packages]
//
// It prints what go test would print. A skipped test that the file does not list
// fails the run, as a failed test does, and so does a run without any test.
//
// Each line of the file is a package (its path in this repository), a test and
// the reason why it may be skipped; a line that begins with # is a comment.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

func main() {
	allow := flag.String("allow", "test/skips/allowed.txt", "`file` of the tests that may be skipped")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./test/skips [-allow file] -- [go test's flags] [packages]")
		flag.PrintDefaults()
	}
	flag.Parse()
	os.Exit(run(*allow, flag.Args(), os.Stdout, os.Stderr))
}

// run returns the exit code: go test's own, or 1 for a skip that is not allowed.
func run(allowFile string, args []string, stdout, stderr io.Writer) int {
	start := time.Now()
	allowed, err := readAllowed(allowFile)
	if err != nil {
		fmt.Fprintln(stderr, "skips:", err)
		return 2
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(stderr, "skips:", err)
		return 2
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(stderr, "skips:", err)
		return 2
	}
	r := newReport(stdout, allowed)
	decodeErr := decode(events, r.add)
	waitErr := cmd.Wait()
	if decodeErr != nil {
		fmt.Fprintln(stderr, "skips: read the events of go test:", decodeErr)
		return 2
	}
	code := r.finish(waitErr == nil, time.Since(start))
	if exit, ok := errors.AsType[*exec.ExitError](waitErr); ok {
		return exit.ExitCode()
	}
	if waitErr != nil {
		fmt.Fprintln(stderr, "skips:", waitErr)
		return 2
	}
	return code
}

// decode hands every event to add. It reads to the end even after a line that is
// no event, so that go test never waits for its reader.
func decode(r io.Reader, add func(event)) error {
	d := json.NewDecoder(r)
	for {
		var e event
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			_, _ = io.Copy(io.Discard, r)
			return err
		}
		add(e)
	}
}
