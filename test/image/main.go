// Command image packs files into a container image without a container engine.
//
//	go run ./test/image -ref NAME:TAG -o FILE.tar [-arch amd64] [-user 65532:65532]
//	    [-entrypoint /PROGRAM] [-label key=value]... [-link /LINK=TARGET]... HOST-FILE:/IMAGE-FILE...
//
// The archive can be loaded by docker, podman, containerd, kind, k3s and
// minikube. The same files and flags give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	img := image{labels: map[string]string{}}
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	out := flags.String("o", "", "the archive to write (`file`)")
	flags.StringVar(&img.ref, "ref", "", "name and tag of the image")
	flags.StringVar(&img.arch, "arch", runtime.GOARCH, "architecture of the programs in it")
	flags.StringVar(&img.user, "user", "65532:65532", "numeric user and group that it runs as")
	flags.StringVar(&img.entrypoint, "entrypoint", "", "program that it runs (path in the image)")
	flags.Func("label", "label of the image, `key=value`; may be repeated", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("want key=value")
		}
		img.labels[key] = value
		return nil
	})
	flags.Func("link", "symbolic link in the image, `/link=target`; may be repeated", func(s string) error {
		name, target, ok := strings.Cut(s, "=")
		if !ok || !strings.HasPrefix(name, "/") || target == "" {
			return fmt.Errorf("want /link=target")
		}
		img.files = append(img.files, file{to: name[1:], target: target})
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *out == "" || img.ref == "" || flags.NArg() == 0 {
		return fmt.Errorf("-o, -ref and at least one file are needed; -h explains")
	}
	for _, arg := range flags.Args() {
		from, to, ok := strings.Cut(arg, ":/")
		if !ok {
			return fmt.Errorf("%q: want HOST-FILE:/IMAGE-FILE", arg)
		}
		img.files = append(img.files, file{from: from, to: to})
	}
	return img.write(*out)
}
