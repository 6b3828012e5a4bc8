// Command size holds the program to its budget: it measures the binary, and the
// memory of the real program beside a real redis-server and a real S3 server
// when it idles with every job on, is scraped, backs up and restores.
//
//	go run ./test/size [-binary bin/redis-sidecar] [-rdb 1024]
//
// It prints a table and exits with 1 when a figure is over its limit. It needs
// about three times the size of the RDB in memory, and in the temporary directory.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"text/tabwriter"
)

const (
	mb  = 1_000_000
	mib = 1 << 20
)

func main() {
	// Children die with the thread that started them: it must be this one, and stay.
	runtime.LockOSThread()
	binary := flag.String("binary", "bin/redis-sidecar", "the program to measure (`path`)")
	rdb := flag.Int64("rdb", 1024, "`MiB` of data to back up and restore")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *binary, *rdb*mib, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

// figure is one line of the table, in bytes.
type figure struct {
	what            string
	measured, limit int64
	unit            int64
	note            string
}

func run(ctx context.Context, binary string, rdb int64, out io.Writer) error {
	figures, err := measure(ctx, binary, rdb, out)
	if err != nil {
		return err
	}
	over := 0
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "what\tmeasured\tlimit\t\tnote")
	for _, f := range figures {
		verdict := "ok"
		if f.measured > f.limit {
			verdict = "OVER"
			over++
		}
		unit := map[int64]string{mb: "MB", mib: "MiB"}[f.unit]
		fmt.Fprintf(w, "%s\t%.1f %s\t%d %s\t%s\t%s\n",
			f.what, float64(f.measured)/float64(f.unit), unit, f.limit/f.unit, unit, verdict, f.note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if over > 0 {
		return fmt.Errorf("%d of %d figures are over their limit", over, len(figures))
	}
	return nil
}
