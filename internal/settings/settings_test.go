package settings_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, in settings.Input) *settings.Settings {
	t.Helper()
	s, _, err := settings.Load(in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaults(t *testing.T) {
	s := load(t, settings.Input{})
	if s.Redis.Addr != "redis://localhost:6379" || s.Redis.Timeout != 5*time.Second || s.Backup.Retention.KeepLast != 14 ||
		s.Announce.Mode != "auto" || len(s.Web.ListenAddress) != 1 || s.Web.ListenAddress[0] != ":9121" {
		t.Errorf("defaults: %+v", s)
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "s.yaml", "announce:\n  mode: cluster\nbackup:\n  retention: {keep-last: 3}\n  role: any\nweb:\n  listen-address: ['127.0.0.1:1', ':2']\nredis: # all default\n")
	env := []string{"REDIS_SIDECAR_SETTINGS_FILE=" + file, "REDIS_SIDECAR_BACKUP_ROLE=replica", "REDIS_SIDECAR_ANNOUNCE_MODE=off",
		"REDIS_ADDR=h:1", "REDIS_SIDECAR_LOG_LEVEL="}
	s := load(t, settings.Input{Environ: env, Args: []string{"--announce.mode=replication", "-redis.tls.insecure-skip-verify"}})
	if s.Announce.Mode != "replication" {
		t.Errorf("flag over variable over file: %q", s.Announce.Mode)
	}
	if s.Backup.Role != "replica" {
		t.Errorf("variable over file: %q", s.Backup.Role)
	}
	if s.Backup.Retention.KeepLast != 3 || strings.Join(s.Web.ListenAddress, " ") != "127.0.0.1:1 :2" {
		t.Errorf("file over default: %d %v", s.Backup.Retention.KeepLast, s.Web.ListenAddress)
	}
	if s.Redis.Addr != "h:1" || !s.Redis.TLS.InsecureSkipVerify || s.Log.Level != "info" {
		t.Errorf("redis_exporter's variable, a bare flag, an empty variable: %q %v %q", s.Redis.Addr, s.Redis.TLS.InsecureSkipVerify, s.Log.Level)
	}
	sources := map[string]string{}
	for _, e := range s.Effective() {
		sources[e.Name] = e.Source
	}
	want := map[string]string{"announce.mode": "flag --announce.mode", "backup.role": "variable REDIS_SIDECAR_BACKUP_ROLE",
		"backup.retention.keep-last": file + ":4", "redis.addr": "variable REDIS_ADDR", "log.level": "default"}
	for name, source := range want {
		if sources[name] != source {
			t.Errorf("source of %s is %q, want %q", name, sources[name], source)
		}
	}
}

// The names under which charts and operators set up redis_exporter.
func TestRedisExporterNames(t *testing.T) {
	secretFile := write(t, "pw", "x")
	s := load(t, settings.Input{Environ: []string{"REDIS_ADDR=redis://r:6380", "REDIS_USER=u", "REDIS_PASSWORD=p", "REDIS_PASSWORD_FILE=" + secretFile,
		"REDIS_EXPORTER_SKIP_TLS_VERIFICATION=true", "REDIS_EXPORTER_WEB_LISTEN_ADDRESS=:1", "REDIS_EXPORTER_LOG_FORMAT=txt", "REDIS_EXPORTER_LOG_LEVEL=DEBUG"},
		Args: []string{"-connection-timeout", "3s"}})
	if s.Redis.Addr != "redis://r:6380" || s.Redis.User != "u" || s.Redis.Password.Reveal() != "p" || s.Redis.PasswordFile != secretFile ||
		!s.Redis.TLS.InsecureSkipVerify || s.Web.ListenAddress[0] != ":1" || s.Log.Format != "text" || s.Log.Level != "debug" || s.Redis.Timeout != 3*time.Second {
		t.Errorf("%+v", s)
	}
	if len(s.Warnings) != 1 {
		t.Errorf("a password beside a password file gives the warnings %q", s.Warnings)
	}
}

func TestFlagsAfterArguments(t *testing.T) {
	var dry bool
	s, rest, err := settings.Load(settings.Input{Args: []string{"some-id", "--backup.store", "file:///b", "--dry-run", "other"},
		Extra: func(fs *flag.FlagSet) { fs.BoolVar(&dry, "dry-run", false, "") }})
	if err != nil || s.Backup.Store != "file:///b" || !dry || strings.Join(rest, " ") != "some-id other" {
		t.Errorf("%v %v %v", dry, rest, err)
	}
	if _, _, err := settings.Load(settings.Input{Args: []string{"x", "--help"}}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

// Every problem is reported, with its place and what to do, in one go.
func TestProblems(t *testing.T) {
	file := write(t, "s.yaml", "backup:\n  shedule: '@daily'\n  role: boss\n  role: any\n  store: {a: b}\nredis: localhost\nnonsense: 1\n")
	absent := filepath.Join(t.TempDir(), "absent")
	dir := t.TempDir()
	_, _, err := settings.Load(settings.Input{
		Environ: []string{"REDIS_SIDECAR_BACKUP_STOER=x", "REDIS_SIDECAR_SERVICE_HOST=10.0.0.1", "REDIS_SIDECAR_PORT_9121_TCP=x",
			"REDIS_SIDECAR_REDIS_PASSWORD_FILE=" + absent, "REDIS_SIDECAR_BACKUP_RETENTION_KEEP_LAST=many"},
		Args: []string{"--settings.file", file, "--redis.timeout=5", "--probe.max-lag", "0s", "--redis.adr=x", "--announce.mode=on", "---",
			"--probe.allow-stale=maybe", "--backup.schedule=bad", "--redis.addr=redis://u:hush@h:1", "--redis.tls.cert-file", dir, "--web.telemetry-path=metrics",
			"--redis.user"},
		Checks: map[string]func(string) error{
			"backup.schedule": func(string) error { return hinted{"is not cron", "five fields"} },
			"redis.addr":      func(string) error { return errors.New("is not an address") },
		},
	})
	got := strings.NewReplacer(file, "FILE", absent, "ABSENT", dir, "DIR").Replace(fmt.Sprint(err))
	want, readErr := os.ReadFile("testdata/problems.txt")
	if readErr != nil {
		t.Fatal(readErr)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, got)
	}
	if strings.Contains(got, "hush") {
		t.Error("a password is shown")
	}
}

type hinted struct{ what, hint string }

func (h hinted) Error() string { return h.what }
func (h hinted) Hint() string  { return h.hint }

func TestListenAddress(t *testing.T) {
	for text, want := range map[string]string{
		":9121":                "",
		"127.0.0.1:0, [::1]:1": "",
		",":                    "names no address",
		"9121":                 `"9121" is not host:port`,
		":1,host":              `"host" is not host:port`,
		":99999":               `":99999" has no port from 0 to 65535`,
		":http":                `":http" has no port from 0 to 65535`,
	} {
		_, _, err := settings.Load(settings.Input{Args: []string{"--web.listen-address=" + text}})
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestUnreadableYAML(t *testing.T) {
	for text, want := range map[string]string{
		"a: b: c": "is not YAML: mapping values are not allowed in this context",
		"- a":     "is not a section",
		"redis: {user: a}\n---\nredis: {user: b}": "holds more than one YAML document",
	} {
		_, _, err := settings.Load(settings.Input{Args: []string{"--settings.file=" + write(t, "s.yaml", text)}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, _, err := settings.Load(settings.Input{Args: []string{"--settings.file=" + write(t, "s.yaml", "")}}); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestRedactURL(t *testing.T) {
	for raw, want := range map[string]string{
		"redis://h:1":                         "redis://h:1",
		"redis://:hush@h:1":                   "redis://:**redacted**@h:1",
		"s3://b/p?endpoint=http://h&region=r": "s3://b/p?endpoint=http://h&region=r",
		"s3://b?secret=hush&Access_Key=hush":  "s3://b?secret=**redacted**&Access_Key=**redacted**",
		"s3://u:hush@b?x-auth=hush":           "s3://u:**redacted**@b?x-auth=**redacted**",
	} {
		if got := settings.RedactURL(raw); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestSecretsDoNotShow(t *testing.T) {
	s := load(t, settings.Input{Args: []string{"--redis.password=hush", "--redis.addr=redis://u:hush@h:1"}})
	asJSON, err := json.Marshal(s.Redis.Password)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "password", s.Redis.Password, "all", s.Redis.Password)
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %d", s.Redis.Password, s.Redis.Password, s.Redis.Password, s.Redis.Password, s.Redis.Password, s.Redis.Password, s.Redis.Password) +
		string(asJSON) + b.String() + fmt.Sprintf("%v", s.Effective()) + settings.RedactURL("redis://:a@hush@h") + settings.RedactURL("hush@h")
	if strings.Contains(shown, "hush") || strings.Contains(shown, "68757368") {
		t.Errorf("a secret shows: %s", shown)
	}
	if s.Redis.Password.Reveal() != "hush" {
		t.Error("Reveal does not")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "70000": 70000, "64KiB": 64 << 10, "50MiB": 50 << 20, "50 MiB": 50 << 20, "1.5GiB": 3 << 29, "50MB": 50e6, "500kB": 500e3, "1G": 1e9, "2Gi": 2 << 30,
	} {
		s, _, err := settings.Load(settings.Input{Args: []string{"--backup.rate-limit", text}})
		if err != nil || s.Backup.RateLimit != want {
			t.Errorf("%q: %d, want %d; %v", text, s.Backup.RateLimit, want, err)
		}
	}
	for _, text := range []string{"1", "63KiB", "-1", "fast", "50 apples", "MiB", "1e30GiB", "NaN", "0x10000000", "50MiB/s"} {
		if s, _, err := settings.Load(settings.Input{Args: []string{"--backup.rate-limit", text}}); err == nil {
			t.Errorf("%q is taken for %d", text, s.Backup.RateLimit)
		}
	}
}
