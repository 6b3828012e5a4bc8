package redis_test

import (
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
)

func TestParseAddress(t *testing.T) {
	for raw, want := range map[string]redis.Address{
		"redis://localhost:6379":     {Network: "tcp", Addr: "localhost:6379"},
		"redis://10.0.0.1":           {Network: "tcp", Addr: "10.0.0.1:6379"},
		"redis://":                   {Network: "tcp", Addr: "localhost:6379"},
		"valkey://h:7000/0":          {Network: "tcp", Addr: "h:7000"},
		"rediss://u:p@h:6380":        {Network: "tcp", Addr: "h:6380", TLS: true, User: "u", Password: "p"},
		"redis://:p%40ss@[::1]:6379": {Network: "tcp", Addr: "[::1]:6379", Password: "p@ss"},
		"unix:///run/redis.sock":     {Network: "unix", Addr: "/run/redis.sock"},
		"localhost":                  {Network: "tcp", Addr: "localhost:6379"},
		"h:1":                        {Network: "tcp", Addr: "h:1"},
		":6380":                      {Network: "tcp", Addr: "localhost:6380"},
		"::1":                        {Network: "tcp", Addr: "[::1]:6379"},
		"[::1]":                      {Network: "tcp", Addr: "[::1]:6379"},
		"[fd00::1]:6380":             {Network: "tcp", Addr: "[fd00::1]:6380"},
	} {
		got, err := redis.ParseAddress(raw)
		if err != nil || got != want {
			t.Errorf("ParseAddress(%q) = %+v, %v; want %+v", raw, got, err, want)
		}
	}
}

func TestParseAddressErrors(t *testing.T) {
	const (
		escapeAll  = "user and password of a URL must be percent-encoded: %40 for @, %2F for /, %25 for %"
		needScheme = "user and password need a scheme: redis://user:password@host:port"
	)
	for raw, want := range map[string]string{
		"":                           "the address is empty",
		"http://localhost:6379":      `unknown scheme "http": use redis://, rediss:// or unix://`,
		"unix://run/redis.sock":      "a unix address needs an absolute path: unix:///run/redis.sock",
		"localhost:0":                `port "0" is not a number from 1 to 65535`,
		"localhost:redis":            `port "redis" is not a number from 1 to 65535`,
		"a:b:c":                      `"a:b:c" is not host:port`,
		"redis://u:hush@h:99999":     `port "99999" is not a number from 1 to 65535`,
		"redis://u:hu%zzsh@host":     escapeAll,
		"redis://u:hush/1@host:1":    escapeAll,
		"redis://u:hush%zz@host":     escapeAll,
		"redis://u:hush@host name:1": escapeAll,
		"redis://host name:1":        `invalid character " " in host name`,
		"u:hush@host:1":              needScheme,
		"hush@host:1":                needScheme,
		"hush@host":                  needScheme,
	} {
		_, err := redis.ParseAddress(raw)
		if err == nil || err.Error() != want {
			t.Errorf("ParseAddress(%q): %v, want %s", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}
