package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/announce"
	"github.com/redis-sidecar/redis-sidecar/internal/backup"
	"github.com/redis-sidecar/redis-sidecar/internal/config"
	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/probe"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// rights are the words of an ACL rule, and the jobs that need them.
type rights struct {
	words []string
	jobs  []string
}

func (r *rights) add(job status.Job, words ...string) {
	if len(words) > 0 {
		r.words = append(r.words, words...)
		r.jobs = append(r.jobs, string(job))
	}
}

// allowing are the words that allow commands.
func allowing(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = "+" + n
	}
	return out
}

// rights returns what the jobs that are on may do, no more, on a server of a
// version; "" stands for 7.0.
func (l *loaded) rights(version string) rights {
	var r rights
	r.add(status.Announce, allowing(announce.Permissions(announce.Mode(l.Announce.Mode)))...)
	if l.Config.Path != "" {
		r.add(status.Config, allowing(config.Permissions())...)
	}
	r.add(status.Exporter, exporter.Permissions(l.exporterOptions(), version, false)...)
	if l.Backup.Schedule != "" {
		r.add(status.Backup, allowing(backup.Permissions(l.Backup.Source, l.Backup.RDBCompression))...)
	}
	r.add(status.Probe, allowing(probe.Permissions())...)
	r.words = append(r.words, "+client|setname") // of every connection
	return r
}

// writeRights prints the rules to give redis-server, and a Sentinel.
func (l *loaded) writeRights(w io.Writer, version string) {
	user := cmp.Or(l.Redis.User, "sidecar")
	of := "Redis 7.0; --redis-version names another"
	if version != "" {
		of = "version " + version
	}
	if l.Redis.Addr != "" {
		r := l.rights(version)
		fmt.Fprintf(w, "\nAll that %s may do, as an ACL rule (for %s):\n%s\n", listed(r.jobs), of, rule(user, r.words))
		if l.Redis.User == "" {
			fmt.Fprintf(w, "redis.user is not set: the agent is the default user now. With this rule, set redis.user to %s.\n", user)
		}
		if len(l.Exporter.Scripts.Files) > 0 {
			fmt.Fprint(w, "Add what the files of exporter.script do: their commands, and ~ with their keys.\n")
		}
	}
	if l.Redis.Addr == "" && len(l.Exporter.Targets) == 0 {
		return
	}
	// Its other commands a Sentinel does not know, and refuses in a rule.
	words := append(exporter.Permissions(l.exporterOptions(), version, true), "+client|setname", "+ping")
	fmt.Fprintf(w, "\nThe same for a Sentinel, in redis.addr or exporter.targets:\n%s\n", rule(user, words))
}

// rule returns the command, as redis-cli reads it.
func rule(user string, words []string) string {
	var keys, commands []string
	for _, w := range words {
		if strings.HasPrefix(w, "+") {
			commands = append(commands, w)
		} else {
			keys = append(keys, w)
		}
	}
	slices.Sort(keys)
	slices.Sort(commands)
	all := slices.Concat([]string{"ACL", "SETUSER", user, "reset", "on", ">PASSWORD"}, slices.Compact(keys), slices.Compact(commands))
	for i, word := range all {
		if strings.ContainsAny(word, ` "'\`) {
			all[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
		}
	}
	return strings.Join(all, " ")
}

// listed joins names for a sentence.
func listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
