// Command record asks a server all that the exporter may ask it and writes the
// replies down, for the replay tests of internal/exporter:
//
//	go run ./test/record -addr HOST:PORT -dir internal/exporter/testdata/replay/NAME
//
// It writes info.txt, the reply to INFO ALL, and replies.json, all others by
// command line. A command that the server answers with an error is left out.
// Nothing is redacted: the server should be one of a lab, without secrets.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:6379", "`host:port` of the server")
	dir := flag.String("dir", "", "`directory` to write to; it is made")
	master := flag.String("master", "mymaster", "`name` under which a Sentinel knows its primary")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./test/record -addr host:port -dir directory")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*addr, *dir, *master); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(addr, dir, master string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := redis.New(redis.Options{Addr: addr, Name: "redis-sidecar"})
	defer client.Close()
	rec, err := take(ctx, client, master)
	if err != nil {
		return fmt.Errorf("record %s: %w", addr, err)
	}
	return rec.write(dir)
}
