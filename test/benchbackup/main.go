// Command benchbackup measures backup and restore beside what people use instead:
// BGSAVE and then aws s3 cp or rclone, on a real redis-server with realistic data,
// with real S3 servers (versitygw, MinIO).
//
//	go run ./test/benchbackup [-binary bin/redis-sidecar] [-gib 1] [-reps 3] [-stores versitygw,minio]
//
// It prints a table for each store, medians over repetitions in which all ways
// take turns, and holds the ratios against this project's goals. A goal that is
// missed is printed as MISSED and, with -check, makes it exit 1. It needs about
// five times the size of the data in the temporary directory (-dir).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	binary string
	gib    float64
	reps   int
	stores []string
	dir    string
	check  bool
	lzf    bool
	skip   []string
	agent  bool
	mbit   float64
}

func main() {
	// Children die with the thread that started them: it must be this one, and stay.
	runtime.LockOSThread()
	var o options
	flag.StringVar(&o.binary, "binary", "bin/redis-sidecar", "the program to measure (`path`)")
	flag.Float64Var(&o.gib, "gib", 1, "`GiB` of data, as redis-server holds it in memory")
	flag.IntVar(&o.reps, "reps", 3, "repetitions")
	stores := flag.String("stores", "versitygw,minio", "S3 servers, by commas")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where all files go (`path`)")
	flag.BoolVar(&o.check, "check", false, "exit 1 when a goal is missed")
	flag.BoolVar(&o.lzf, "rdbcompression", true, "redis-server compresses strings in its RDB, as it does by default")
	flag.BoolVar(&o.agent, "agent", true, "measure the scheduled snapshots of the agent, too")
	flag.Float64Var(&o.mbit, "link", 0, "`Mbit/s` of the network between clients and S3 server; 0 is loopback")
	skip := flag.String("skip", "", "ways not to measure, by commas: rclone, aws, encrypted, server")
	flag.Parse()
	o.stores, o.skip = words(*stores), words(*skip)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	missed, err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchbackup:", err)
		os.Exit(1)
	}
	if o.check && missed > 0 {
		os.Exit(1)
	}
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}
