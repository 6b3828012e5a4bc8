package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

// errHelp asks for the help of the command that returned it.
var errHelp = flag.ErrHelp

// command is one subcommand.
type command struct {
	name     string // "backup list"
	args     string // placeholders of its arguments
	summary  string // one line
	text     string // what there is to know, paragraphs
	flags    string // lines for its own flags, which are no settings
	sections []string
	exits    string // lines for its exit codes
	run      func(ctx context.Context, e *env, args []string) error
}

const exitsCommon = "  0  done\n  1  failed; the reason is on standard error\n  2  a setting or the command line is wrong; nothing was done\n"

// commands returns all of them, in the order of the help.
func commands() []*command {
	return []*command{
		agentCommand(),
		restoreCommand(),
		backupNowCommand(), backupListCommand(), backupShowCommand(), backupVerifyCommand(), backupDeleteCommand(), backupPruneCommand(),
		checkCommand(),
		probeCommand(),
		completionCommand(),
		versionCommand(),
	}
}

// namesReasons tells whether the command's error ends with its reason, to look it up
// in the tables of docs/: that of all those about snapshots does.
func (c *command) namesReasons() bool {
	return c.name == "restore" || strings.HasPrefix(c.name, "backup ")
}

// find returns the command that args begin with, and the arguments after it. No
// command means run. For an unknown one it returns nil.
func find(args []string) (*command, []string) {
	all := commands()
	if len(args) == 0 {
		return all[0], nil
	}
	switch args[0] {
	case "help", "--help", "-h", "-help":
		return overview(all), nil
	case "--version", "-version":
		return versionCommand(), nil
	case completeName:
		return completeCommand(), args[1:]
	}
	if strings.HasPrefix(args[0], "-") {
		return all[0], args
	}
	for _, c := range all {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c, args[len(words):]
		}
	}
	if group := groupOf(all, args[0]); len(group) > 0 {
		if len(args) == 1 || strings.HasPrefix(args[1], "-") {
			return overview(group), nil
		}
		return nil, []string{args[0] + " " + args[1]}
	}
	return nil, args
}

// groupOf returns the commands whose first word is name: "backup".
func groupOf(all []*command, name string) []*command {
	var out []*command
	for _, c := range all {
		if strings.HasPrefix(c.name, name+" ") {
			out = append(out, c)
		}
	}
	return out
}

func suggestion(name string) string {
	names := make([]string, 0, 12)
	for _, c := range commands() {
		names = append(names, c.name)
		if group, _, ok := strings.Cut(c.name, " "); ok && !slices.Contains(names, group) {
			names = append(names, group)
		}
	}
	if n := settings.Nearest(name, names); n != "" {
		return "did you mean " + n + "? redis-sidecar help lists every command"
	}
	return "redis-sidecar help lists every command"
}

// overview is the help of several commands.
func overview(of []*command) *command {
	return &command{run: func(_ context.Context, e *env, _ []string) error {
		fmt.Fprint(e.stdout, "redis-sidecar runs beside redis-server: addresses, configuration, metrics, backup, probes.\n\nCommands:\n")
		for _, c := range of {
			fmt.Fprintf(e.stdout, "  redis-sidecar %-34s %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
		}
		fmt.Fprint(e.stdout, "\nWithout a command it runs the agent. Every command has --help, with its settings and exit codes.\n")
		return nil
	}}
}

// help writes the help of one command.
func (c *command) help(w io.Writer) {
	usage := strings.Fields(c.name + " " + c.args + " [flags]")
	fmt.Fprintf(w, "redis-sidecar %s\n\n%s\n", strings.Join(usage, " "), c.summary)
	if c.text != "" {
		fmt.Fprintf(w, "\n%s\n", c.text)
	}
	fmt.Fprintf(w, "\nExit codes:\n%s", c.exits)
	if c.flags != "" {
		fmt.Fprintf(w, "\nFlags:\n%s", c.flags)
	}
	if c.sections != nil {
		fmt.Fprint(w, "\nSettings (flag wins over variable REDIS_SIDECAR_…, that over the file, that over the default):\n")
		settings.WriteHelp(w, c.sections...)
	}
}

// noArguments is the error for arguments that a command does not have.
func noArguments(rest []string) error {
	if len(rest) == 0 {
		return nil
	}
	return withCode(exitUsage, fmt.Errorf("unexpected argument %q", rest[0]))
}

// oneArgument returns the only argument of a command.
func oneArgument(rest []string, what string) (string, error) {
	switch len(rest) {
	case 0:
		return "", withCode(exitUsage, errors.New("missing argument: "+what))
	case 1:
		return rest[0], nil
	}
	return "", withCode(exitUsage, fmt.Errorf("unexpected argument %q", rest[1]))
}
