package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
)

// version is set by the linker for a release: -X main.version=v1.2.3.
var version string

// build says what this program was built from.
type build struct{ version, revision, date, goVersion string }

func buildVersion() build {
	b := build{version: version, revision: "unknown", date: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.goVersion = info.GoVersion
		if b.version == "" {
			b.version = strings.TrimSuffix(strings.TrimPrefix(info.Main.Version, "("), ")")
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.revision = s.Value
			case "vcs.time":
				b.date = s.Value
			}
		}
	}
	if b.version == "" {
		b.version = "devel"
	}
	return b
}

func versionCommand() *command {
	return &command{
		name:    "version",
		summary: "Print version, revision and Go version.",
		exits:   exitsCommon,
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) > 0 {
				if args[0] == "--help" || args[0] == "-h" {
					return errHelp
				}
				return noArguments(args)
			}
			b := buildVersion()
			_, err := fmt.Fprintf(e.stdout, "redis-sidecar %s (revision %s of %s, %s)\n", b.version, b.revision, b.date, b.goVersion)
			return err
		},
	}
}
