package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"text/tabwriter"

	"github.com/redis-sidecar/redis-sidecar/internal/config"
)

func checkCommand() *command {
	var conf, version string
	return &command{
		name: "check", summary: "Check the settings, and a redis.conf if one is given, without connecting to anything.",
		text: "Prints every setting that is not at its default, with where it came from, and the ACL rule that allows the server's user\n" +
			"what the jobs that are on need, and nothing else. Secrets are redacted. It takes every setting of redis-sidecar run --help.",
		flags: "  --redis-conf FILE\n        Check this redis.conf too, with redis-server's own grammar. The default is config.path.\n" +
			"  --redis-version VERSION\n        Version of redis-server, such as 7.0.15, for its grammar and its ACL. Without it, what any known version accepts is\n        right, and the ACL rule is for 7.0.\n",
		exits: "  0  all is well\n  1  redis.conf has problems\n  2  the settings have problems\n",
		run: func(ctx context.Context, e *env, args []string) error {
			l, err := load(e, args, func(fs *flag.FlagSet) {
				fs.StringVar(&conf, "redis-conf", "", "")
				fs.StringVar(&version, "redis-version", "", "")
			})
			if err != nil {
				return err
			}
			if err := noArguments(l.rest); err != nil {
				return err
			}
			if conf == "" {
				conf = l.Config.Path
			}
			if version != "" && !serverVersion.MatchString(version) {
				return withCode(exitUsage, fmt.Errorf("--redis-version %q is not a version: 7.0.15, or valkey 9.0.1", version))
			}
			w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
			for _, s := range l.Effective() {
				if s.Source != "default" {
					fmt.Fprintf(w, "%s\t%s\t(%s)\n", s.Name, s.Value, s.Source)
				}
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintln(e.stdout, "settings: ok")
			if conf == "" {
				l.writeRights(e.stdout, version)
				return nil
			}
			problems := config.Check(conf, version)
			for _, p := range problems {
				fmt.Fprintln(e.stdout, p)
			}
			if len(problems) > 0 {
				return errors.New(plural(len(problems), "problem") + " in " + conf)
			}
			fmt.Fprintf(e.stdout, "%s: ok\n", conf)
			l.writeRights(e.stdout, version)
			return nil
		},
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
