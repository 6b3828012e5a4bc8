package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

func completionCommand() *command {
	return &command{
		name: "completion", args: "bash|zsh|fish", summary: "Print a script that completes commands, flags and snapshot ids in a shell.",
		text: "  bash:  source <(redis-sidecar completion bash)\n" +
			"  zsh:   source <(redis-sidecar completion zsh)\n" +
			"  fish:  redis-sidecar completion fish | source\n\n" +
			"Ids come from the store of the settings, if it answers within two seconds.",
		exits: exitsCommon,
		run: func(_ context.Context, e *env, args []string) error {
			if slices.ContainsFunc(args, isHelp) {
				return errHelp
			}
			shell, err := oneArgument(args, "bash, zsh or fish")
			if err != nil {
				return err
			}
			script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[shell]
			if script == "" {
				return withCode(exitUsage, fmt.Errorf("no completion for %q: there is one for bash, zsh and fish", shell))
			}
			_, err = fmt.Fprint(e.stdout, script)
			return err
		},
	}
}

func isHelp(arg string) bool { return arg == "--help" || arg == "-help" || arg == "-h" }

// The scripts hand the line up to the cursor to completeCommand, so that all that
// there is to know stands in one place: the table of commands, and the settings.
const (
	bashScript = `# bash completion of redis-sidecar
_redis_sidecar() {
  local IFS=$'\n'
  COMPREPLY=($("${COMP_WORDS[0]}" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
}
complete -F _redis_sidecar redis-sidecar
`
	zshScript = `#compdef redis-sidecar
_redis_sidecar() {
  local -a found
  found=("${(@f)$("${words[1]}" __complete zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
  local -a flags=(${(M)found:#*=}) others=(${found:#*=})
  (( $#flags )) && compadd -S '' -- $flags
  (( $#others )) && compadd -- $others
}
if [[ $funcstack[1] == _redis_sidecar ]]; then _redis_sidecar "$@"; else compdef _redis_sidecar redis-sidecar; fi
`
	fishScript = `# fish completion of redis-sidecar
complete -c redis-sidecar -f -a '(redis-sidecar __complete fish (commandline -cp) 2>/dev/null)'
`
)

// completeName is the hidden command that the scripts call.
const completeName = "__complete"

// idsWithin bounds how long a shell waits for ids.
const idsWithin = 2 * time.Second

// mostIDs is how many are offered.
const mostIDs = 100

// completeCommand prints what could stand where a line ends, one a line. It says
// nothing of what goes wrong: nobody asked.
func completeCommand() *command {
	return &command{name: completeName, run: func(ctx context.Context, e *env, args []string) error {
		if len(args) != 2 {
			return withCode(exitUsage, errors.New("usage: __complete SHELL LINE"))
		}
		words := splitLine(args[1])
		if len(words) < 2 {
			return nil
		}
		last := words[len(words)-1]
		for _, candidate := range candidates(ctx, e, words[1:]) {
			if !strings.HasPrefix(candidate, last) {
				continue
			}
			if at := strings.LastIndexAny(last, "=:"); args[0] == "bash" && at >= 0 {
				candidate = candidate[at+1:] // to bash, these begin a new word
			}
			fmt.Fprintln(e.stdout, candidate)
		}
		return nil
	}}
}

// splitLine takes a command line apart as a shell does, but for expansions. The
// last word is the one that is being typed; it may be empty.
func splitLine(line string) []string {
	words := []string{""}
	quote := rune(0)
	escaped := false
	add := func(r rune) { words[len(words)-1] += string(r) }
	for _, r := range line {
		switch {
		case escaped:
			add(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			add(r)
		case r == '\'' || r == '"':
			quote = r
		case r == ' ' || r == '\t' || r == '\n':
			if words[len(words)-1] != "" {
				words = append(words, "")
			}
		default:
			add(r)
		}
	}
	return words
}

// candidates are all that could be the last of words, which begin after the name
// of the program. What does not begin as the last word does is left out later.
func candidates(ctx context.Context, e *env, words []string) []string {
	before, last := words[:len(words)-1], words[len(words)-1]
	cmd, rest := commandOf(before)
	if cmd == nil {
		out := nextWords(before)
		if len(before) == 0 {
			out = append(out, "help", "--help", "--version")
			out = append(out, flagsOf(agentCommand())...)
		}
		return out
	}
	if strings.HasPrefix(last, "--restore.from=") && cmd.name == "restore" {
		out := []string{"--restore.from=latest"}
		for _, id := range idsFor(ctx, e, rest) {
			out = append(out, "--restore.from="+id)
		}
		return out
	}
	if strings.HasPrefix(last, "-") {
		return append(flagsOf(cmd), "--help")
	}
	switch cmd.name {
	case "completion":
		return []string{"bash", "zsh", "fish"}
	case "probe":
		return []string{"startup", "liveness", "readiness"}
	case "backup show", "backup verify":
		return append([]string{"latest"}, idsFor(ctx, e, rest)...)
	case "backup delete":
		return idsFor(ctx, e, rest)
	}
	return nil
}

// commandOf returns the command that words are of, and the words after its name.
func commandOf(words []string) (*command, []string) {
	if len(words) > 0 && strings.HasPrefix(words[0], "-") {
		return agentCommand(), words
	}
	for _, c := range commands() {
		name := strings.Fields(c.name)
		if len(words) >= len(name) && slices.Equal(words[:len(name)], name) {
			return c, words[len(name):]
		}
	}
	return nil, nil
}

// nextWords are the words of command names that can follow those before.
func nextWords(before []string) []string {
	var out []string
	for _, c := range commands() {
		name := strings.Fields(c.name)
		if len(name) > len(before) && slices.Equal(name[:len(before)], before) && !slices.Contains(out, name[len(before)]) {
			out = append(out, name[len(before)])
		}
	}
	return out
}

// flagsOf are the flags of a command: its own, from its help, and its settings.
// Those that take a value end in =.
func flagsOf(c *command) []string {
	var out []string
	for line := range strings.Lines(c.flags) {
		name, ok := strings.CutPrefix(line, "  --")
		if !ok {
			continue
		}
		words := strings.Fields(name)
		if len(words) > 1 {
			words[0] += "="
		}
		out = append(out, "--"+words[0])
	}
	if c.sections == nil {
		return out
	}
	for _, f := range settings.Flags(c.sections...) {
		if !f.Bool {
			f.Name += "="
		}
		out = append(out, "--"+f.Name)
	}
	return out
}

// idsFor returns the newest ids of the store that the flags, the environment and
// the settings file name; none when it does not answer soon.
func idsFor(ctx context.Context, e *env, words []string) []string {
	ctx, cancel := context.WithTimeout(ctx, idsWithin)
	defer cancel()
	flags := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, "-") || !strings.Contains(w, "=") })
	quiet := *e
	quiet.stderr = io.Discard
	var instance string
	for _, w := range flags {
		if v, ok := strings.CutPrefix(strings.TrimLeft(w, "-"), "instance="); ok {
			instance = v
		}
	}
	flags = slices.DeleteFunc(flags, func(w string) bool { return !strings.Contains(w, ".") }) // a command's own
	l, err := load(&quiet, flags, nil)
	if err != nil {
		return nil
	}
	l.log = slog.New(slog.DiscardHandler)
	if instance != "" {
		l.Backup.Instance = instance
	}
	c, err := l.openCatalogue(ctx, &quiet)
	if err != nil {
		return nil
	}
	found := make(chan []string, 1) // a store that hangs must not hold the shell
	go func() {
		ids, err := c.IDs(ctx)
		if err != nil {
			ids = nil
		}
		found <- ids
	}()
	select {
	case ids := <-found:
		return ids[:min(len(ids), mostIDs)]
	case <-ctx.Done():
		return nil
	}
}
