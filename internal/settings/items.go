package settings

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/luapattern"
)

// hinted is an error that knows better than its setting what would be right.
type hinted struct{ what, hint string }

func (h hinted) Error() string { return h.what }
func (h hinted) Hint() string  { return h.hint }

// item is an error about one of several values; n counts from 1.
func item(n int, text, what, hint string) error {
	return hinted{fmt.Sprintf("item %d, %q: %s", n, text, what), hint}
}

// commas are the items of a list, trimmed, with their numbers; empty ones are
// left out, as redis_exporter does.
func commas(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for part := range strings.SplitSeq(text, ",") {
			n++
			if part = strings.TrimSpace(part); part != "" && !yield(n, part) {
				return
			}
		}
	}
}

// withoutCommas joins the items of a YAML list.
func withoutCommas(hint string) func([]string) (string, error) {
	return func(items []string) (string, error) {
		for i, it := range items {
			if strings.Contains(it, ",") {
				return "", hinted{fmt.Sprintf("item %d holds a comma, which separates items", i+1), hint} // not shown: it may hold a password
			}
		}
		return strings.Join(items, ","), nil
	}
}

// maxDatabases bounds the number of a database. Servers have 16 unless told otherwise.
const maxDatabases = 1 << 16

// ParseKeys reads a list such as "db0=user:*,db3=queue,plain", as redis_exporter
// does: items without a database are in 0, and what would separate is written as
// in the query of a URL (%2C for a comma, %3D for =, %2B for +, + for a space).
func ParseKeys(text string) ([]DBKey, error) {
	const example = "for example db0=user:*,db3=queue"
	var out []DBKey
	for n, part := range commas(text) {
		db, key, hasDB := strings.Cut(part, "=")
		if !hasDB {
			db, key = "0", part
		}
		if strings.Contains(key, "=") {
			return nil, item(n, part, "has more than one =", "write = in a key as %3D: db0=a%3Db")
		}
		db = strings.ReplaceAll(strings.TrimSpace(db), "db", "")
		number, err := strconv.Atoi(db)
		if err != nil || number < 0 || number >= maxDatabases {
			return nil, item(n, part, "the part before = is no database", "db and its number, at most 65535, "+example)
		}
		key, err = url.QueryUnescape(strings.TrimSpace(key))
		if err != nil {
			return nil, item(n, part, "has a % that is no escape", "write % in a key as %25, a comma as %2C, = as %3D, + as %2B")
		}
		if key == "" {
			return nil, item(n, part, "names no key", example)
		}
		out = append(out, DBKey{number, key})
	}
	return out, nil
}

func keys(field func(*Settings) *[]DBKey) value {
	return value{
		kind: "list of dbN=KEY", hint: "for example db0=user:*,db3=queue",
		set: func(s *Settings, text string) (err error) {
			*field(s), err = ParseKeys(text)
			return err
		},
		list: withoutCommas("write a comma in a key as %2C"),
	}
}

// groups are Lua patterns in one line of CSV.
func groups(field func(*Settings) *[]string) value {
	return value{
		kind: "CSV of Lua patterns", hint: `for example ^(.*)_[^_]+$, or "^(a,b)" in double quotes when there is a comma in it`,
		set: func(s *Settings, text string) error {
			*field(s) = nil
			r := csv.NewReader(strings.NewReader(text))
			record, err := r.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if pe, ok := errors.AsType[*csv.ParseError](err); ok {
				return hinted{fmt.Sprintf("column %d: %v", pe.Column, pe.Err),
					`a pattern with a comma or a " stands in double quotes, and each " in it is written twice`}
			}
			if err != nil {
				return err
			}
			if _, err := r.Read(); !errors.Is(err, io.EOF) {
				return hinted{"has more than one line", "one line; patterns are separated by commas"}
			}
			for i, p := range record {
				if p = strings.TrimSpace(p); p == "" {
					continue
				}
				if err := keyGroup(p); err != nil {
					return item(i+1, p, err.Error(), "see the patterns of Lua 5.1; % escapes: %. %[ %%")
				}
				*field(s) = append(*field(s), p)
			}
			return nil
		},
		list: func(items []string) (string, error) {
			var b strings.Builder
			w := csv.NewWriter(&b)
			_ = w.Write(items) // a Builder takes everything; Error tells of the rest
			w.Flush()
			return strings.TrimSuffix(b.String(), "\n"), w.Error()
		},
	}
}

// keyGroup checks one pattern of groups.
func keyGroup(text string) error {
	p, err := luapattern.Compile(text)
	if i := strings.IndexByte(text, ')'); err == nil && p.Plain() && i >= 0 { // to Lua it is plain text, to people a ( is missing
		return fmt.Errorf("the ) at position %d has no (", i+1)
	}
	return err
}

// files are paths, each of which must be readable.
func files(field func(*Settings) *[]string) value {
	return value{
		kind: "list of files", hint: "is it mounted, and readable for this user?",
		set: func(s *Settings, text string) error {
			*field(s) = nil
			for n, name := range commas(text) {
				if err := readable(name); err != nil {
					return item(n, name, err.Error(), "is it mounted, and readable for this user?")
				}
				*field(s) = append(*field(s), name)
			}
			return nil
		},
		list: withoutCommas("rename the file"),
	}
}

// readable tells why a file cannot be read.
func readable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return cannotRead(err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return cannotRead(err)
	}
	if st.IsDir() {
		return errors.New("cannot be read: it is a directory")
	}
	return nil
}

// words is a list of names.
func words(field func(*Settings) *[]string) value {
	return value{
		kind: "list, by commas",
		set: func(s *Settings, text string) error {
			*field(s) = nil
			for _, w := range commas(text) {
				*field(s) = append(*field(s), w)
			}
			return nil
		},
		list: withoutCommas(""), repeats: true,
	}
}

// pattern is a regular expression (RE2). Several of a YAML list are alternatives.
func pattern(field func(*Settings) *string) value {
	return value{
		kind: "regular expression", hint: "Go's syntax: https://pkg.go.dev/regexp/syntax",
		set: func(s *Settings, text string) error {
			if _, err := regexp.Compile(text); err != nil {
				return errors.New(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			}
			*field(s) = text
			return nil
		},
		list: func(items []string) (string, error) {
			for i, it := range items {
				if _, err := regexp.Compile(it); err != nil { // "a)|(b" would fit in between
					return "", item(i+1, it, strings.TrimPrefix(err.Error(), "error parsing regexp: "), "")
				}
			}
			return "(?:" + strings.Join(items, ")|(?:") + ")", nil
		},
	}
}

// prefix begins the name of a metric.
func prefix(field func(*Settings) *string) value {
	return value{
		kind: "string", hint: "letters, digits and _, not beginning with a digit: redis",
		set: func(s *Settings, text string) error {
			for i, r := range text {
				letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
				if !letter && (i == 0 || r < '0' || r > '9') {
					return fmt.Errorf("%q cannot be part of a metric's name there", r)
				}
			}
			switch text {
			case "":
				return errors.New("is empty")
			case "process", "go", "redis_sidecar":
				return errors.New("is the prefix of other metrics")
			}
			*field(s) = text
			return nil
		},
	}
}

// named are NAME=VALUE pairs.
func named(text, example string, each func(n int, name, value string) error) error {
	seen := map[string]bool{}
	for n, part := range commas(text) {
		name, v, ok := strings.Cut(part, "=")
		name, v = strings.TrimSpace(name), strings.TrimSpace(v)
		if !ok || name == "" || v == "" || strings.ContainsAny(name, "/:@") {
			return hinted{fmt.Sprintf("item %d is not NAME=VALUE", n), example} // not shown: it may be a part of a password
		}
		if seen[name] {
			return hinted{fmt.Sprintf("item %d: the name %q is there twice", n, name), "every target has a name of its own"}
		}
		seen[name] = true
		if err := each(n, name, v); err != nil {
			return err
		}
	}
	return nil
}

// targets are further servers by name. Whether an address is one is a check of
// the caller's.
func targets(field func(*Settings) *[]Target) value {
	const example = "for example sentinel=redis://127.0.0.1:26379,other=unix:///run/other.sock"
	return value{
		kind: "list of NAME=ADDRESS", hint: example, secretive: true, pairs: true, repeats: true,
		list: withoutCommas("percent-encode it: %2C"),
		set: func(s *Settings, text string) error {
			*field(s) = nil
			return named(text, example, func(n int, name, addr string) error {
				if !validName(name) {
					return item(n, name, "is not a name", "letters, digits, - and _: "+example)
				}
				*field(s) = append(*field(s), Target{Name: name, Addr: addr})
				return nil
			})
		},
	}
}

func validName(s string) bool {
	return len(s) <= 63 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// targetPasswords are files by the name of a target. It comes behind targets in
// the table.
func targetPasswords(field func(*Settings) *[]Target) value {
	const example = "for example sentinel=/etc/secret/sentinel-password"
	return value{
		kind: "list of NAME=FILE", hint: example, pairs: true, repeats: true,
		list: withoutCommas("rename the file"),
		set: func(s *Settings, text string) error {
			return named(text, example, func(n int, name, file string) error {
				i := slices.IndexFunc(*field(s), func(t Target) bool { return t.Name == name })
				if i < 0 {
					return item(n, name, "is no target of exporter.targets", example)
				}
				if err := readable(file); err != nil {
					return item(n, file, err.Error(), "is it mounted, and readable for this user?")
				}
				(*field(s))[i].PasswordFile = file
				return nil
			})
		},
	}
}

// addresses are of servers, without passwords. Whether each is one is a check of
// the caller's.
func addresses(field func(*Settings) *[]string) value {
	return value{
		kind: "list of addresses", hint: "for example redis-1.redis:6379,rediss://other:6380", secretive: true, repeats: true,
		list: withoutCommas(""),
		set: func(s *Settings, text string) error {
			*field(s) = nil
			for n, a := range commas(text) {
				if strings.Contains(a, "@") {
					return hinted{fmt.Sprintf("item %d names a user or a password", n),
						"only the address; a password for it goes into the JSON map of redis.password-file"}
				}
				*field(s) = append(*field(s), a)
			}
			return nil
		},
	}
}

// listenAddresses are host:port, :port or a unix socket, at least one.
func listenAddresses(field func(*Settings) *[]string) value {
	return value{
		kind: "list, by commas",
		hint: "host:port or :port, such as :9121 or 127.0.0.1:9121, several separated by commas",
		set: func(s *Settings, text string) error {
			var out []string
			for _, part := range commas(text) {
				if err := listenAddress(part); err != nil {
					return err
				}
				out = append(out, part)
			}
			if len(out) == 0 {
				return errors.New("names no address")
			}
			*field(s) = out
			return nil
		},
		repeats: true,
	}
}

func listenAddress(text string) error {
	if socket, ok := strings.CutPrefix(text, "unix://"); ok {
		if !path.IsAbs(socket) || path.Clean(socket) != socket {
			return hinted{fmt.Sprintf("%q is not an absolute path", socket), "for example unix:///run/redis-sidecar/web.sock"}
		}
		return nil
	}
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is not host:port", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%q has no port from 0 to 65535", text)
	}
	return nil
}
