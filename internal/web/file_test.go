package web

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

func hashOfPassword(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// indent puts a PEM text below a YAML key.
func indent(pem []byte) string {
	return "|\n    " + strings.ReplaceAll(strings.TrimSpace(string(pem)), "\n", "\n    ")
}

func TestGoodFiles(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue(t, "redis-0", 2)
	d := newDir(t, map[string]string{"tls.crt": string(cert), "tls.key": string(key), "ca.crt": string(ca.pem)})
	hash := hashOfPassword(t, "secret")
	tests := map[string]struct {
		text string
		tls  func(*tls.Config) bool // nil: no TLS
		http []string
	}{
		"empty":                     {text: ""},
		"only a comment":            {text: "# nothing\n"},
		"empty sections":            {text: "tls_server_config:\nhttp_server_config: {}\nbasic_auth_users:\n"},
		"users":                     {text: "basic_auth_users:\n  alice: " + hash + "\n"},
		"headers":                   {text: "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    Strict-Transport-Security: max-age=31536000\n"},
		"rate limit":                {text: "rate_limit:\n  interval: 100ms\n  burst: 20\n"},
		"alias":                     {text: "basic_auth_users:\n  alice: &h " + hash + "\n  bob: *h\n"},
		"certificate and key files": {text: "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n", tls: func(c *tls.Config) bool { return c.MinVersion == tls.VersionTLS12 }, http: []string{"h2", "http/1.1"}},
		"certificate and key inline": {
			text: "tls_server_config:\n  cert: " + indent(cert) + "\n  key: " + indent(key) + "\n  client_ca: " + indent(ca.pem) + "\n  client_auth_type: VerifyClientCertIfGiven\n",
			tls:  func(c *tls.Config) bool { return c.ClientAuth == tls.VerifyClientCertIfGiven && c.ClientCAs != nil },
			http: []string{"h2", "http/1.1"},
		},
		"everything": {
			text: `tls_server_config:
  cert_file: ` + d.file("tls.crt") + `
  key_file: tls.key
  client_ca_file: ca.crt
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus, "10.0.0.1"]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: true
  curve_preferences: [X25519, CurveP256]
http_server_config:
  http2: false
  headers: {X-Content-Type-Options: nosniff}
basic_auth_users: {alice: ` + hash + `}
rate_limit: {interval: 1s, burst: 5}
`,
			tls: func(c *tls.Config) bool {
				return c.ClientAuth == tls.RequireAndVerifyClientCert && c.VerifyConnection != nil &&
					len(c.CipherSuites) == 1 && len(c.CurvePreferences) == 2
			},
			http: []string{"http/1.1"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := d.file(strings.ReplaceAll(name, " ", "-") + ".yml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Validate(path); err != nil {
				t.Fatal(err)
			}
			if got, want := UsesTLS(path), tt.tls != nil; got != want {
				t.Errorf("UsesTLS: got %v, want %v", got, want)
			}
			st, _, err := load(path)
			if err != nil {
				t.Fatal(err)
			}
			if (st.tls != nil) != (tt.tls != nil) {
				t.Fatalf("TLS configuration: %v", st.tls)
			}
			if st.tls == nil {
				return
			}
			if !tt.tls(st.tls) {
				t.Errorf("TLS configuration: %+v", st.tls)
			}
			if diff := cmp.Diff(tt.http, st.tls.NextProtos); diff != "" {
				t.Errorf("protocols (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue(t, "redis-0", 2)
	_, otherKey := ca.issue(t, "redis-0", 3)
	d := newDir(t, map[string]string{
		"tls.crt": string(cert), "tls.key": string(key), "other.key": string(otherKey), "ca.crt": string(ca.pem), "junk": "junk\n",
	})
	pair := "  cert_file: tls.crt\n  key_file: tls.key\n"
	tests := map[string]struct{ text, want string }{
		"no mapping":       {"- a\n", "F:1: must be a mapping, is a list"},
		"not YAML":         {"a: b: c\n", "F: not YAML: mapping values are not allowed in this context"},
		"two documents":    {"a:\n---\nb:\n", "F:2: a second document: there must be one"},
		"unknown key":      {"tls_config: {}\n", "F:1: tls_config: unknown key"},
		"key spelt badly":  {"tls-server-config:\n" + pair, "F:1: tls-server-config: unknown key, did you mean tls_server_config?"},
		"key of a section": {"tls_server_config:\n  certfile: tls.crt\n  key_file: tls.key\n", "F:2: tls_server_config.certfile: unknown key, did you mean cert_file?\nF:2: tls_server_config: neither cert_file nor cert is set"},
		"twice":            {"basic_auth_users:\n  a: x\n  a: y\n", "F:2: basic_auth_users.a: is not a bcrypt hash; htpasswd -nBC 10 a makes one\nF:3: basic_auth_users.a: is there twice, first in line 2"},
		"password instead of a hash": {
			"basic_auth_users:\n  alice: secret\n",
			"F:2: basic_auth_users.alice: is not a bcrypt hash; htpasswd -nBC 10 alice makes one",
		},
		"user without a hash": {"basic_auth_users:\n  alice:\n", "F:2: basic_auth_users.alice: is not a bcrypt hash; htpasswd -nBC 10 alice makes one"},
		"no key":              {"tls_server_config:\n  cert_file: tls.crt\n", "F:2: tls_server_config: neither key_file nor key is set"},
		"no certificate": {
			"tls_server_config:\n  client_auth_type: NoClientCert\n",
			"F:2: tls_server_config: neither cert_file nor cert is set\nF:2: tls_server_config: neither key_file nor key is set",
		},
		"file and inline":    {"tls_server_config:\n" + pair + "  key: x\n", "F:3: tls_server_config: both key and key_file are set: set one"},
		"file missing":       {"tls_server_config:\n  cert_file: gone.crt\n  key_file: tls.key\n", "F:2: tls_server_config.cert_file: D/gone.crt: no such file or directory"},
		"file is a folder":   {"tls_server_config:\n  cert_file: .\n  key_file: tls.key\n", "F:2: tls_server_config.cert_file: D: is a directory"},
		"not a certificate":  {"tls_server_config:\n  cert_file: junk\n  key_file: tls.key\n", "F:2: tls_server_config: certificate and key: failed to find any PEM data in certificate input"},
		"foreign key":        {"tls_server_config:\n  cert_file: tls.crt\n  key_file: other.key\n", "F:2: tls_server_config: certificate and key: private key does not match public key"},
		"CA without policy":  {"tls_server_config:\n" + pair + "  client_ca_file: ca.crt\n", "F:4: tls_server_config: a client_ca without client_auth_type is not used: set it to RequireAndVerifyClientCert"},
		"policy without CA":  {"tls_server_config:\n" + pair + "  client_auth_type: RequireAndVerifyClientCert\n", "F:4: tls_server_config: RequireAndVerifyClientCert without client_ca would trust every public authority: set client_ca_file"},
		"CA that is none":    {"tls_server_config:\n" + pair + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: junk\n", "F:5: tls_server_config: client_ca holds no certificate in PEM format"},
		"unknown policy":     {"tls_server_config:\n" + pair + "  client_auth_type: Always\n", `F:4: tls_server_config.client_auth_type: "Always" is none of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert`},
		"names unverified":   {"tls_server_config:\n" + pair + "  client_allowed_sans: [a]\n", "F:4: tls_server_config: client_allowed_sans needs client_auth_type RequireAndVerifyClientCert"},
		"version":            {"tls_server_config:\n" + pair + "  min_version: TLS14\n", `F:4: tls_server_config.min_version: "TLS14" is none of TLS10, TLS11, TLS12, TLS13`},
		"versions crossed":   {"tls_server_config:\n" + pair + "  min_version: TLS13\n  max_version: TLS12\n", "F:5: tls_server_config: min_version is above max_version"},
		"cipher":             {"tls_server_config:\n" + pair + "  cipher_suites:\n  - TLS_RSA_WITH_RC4_128_SHA\n", `F:5: tls_server_config.cipher_suites[0]: "TLS_RSA_WITH_RC4_128_SHA" is not a cipher suite that Go calls safe`},
		"curve":              {"tls_server_config:\n" + pair + "  curve_preferences: [P256]\n", `F:4: tls_server_config.curve_preferences[0]: "P256" is none of CurveP256, CurveP384, CurveP521, X25519`},
		"list expected":      {"tls_server_config:\n" + pair + "  cipher_suites: x\n", "F:4: tls_server_config.cipher_suites: must be a list, is a text"},
		"text expected":      {"tls_server_config:\n  cert_file: [x]\n  key_file: tls.key\n", "F:2: tls_server_config.cert_file: must be a text, is a list\nF:2: tls_server_config: neither cert_file nor cert is set"},
		"boolean expected":   {"http_server_config:\n  http2: maybe\n", "F:2: http_server_config.http2: must be true or false"},
		"header unknown":     {"http_server_config:\n  headers:\n    Server: x\n", "F:3: http_server_config.headers.Server: cannot be set; Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options and X-XSS-Protection can"},
		"header value":       {"http_server_config:\n  headers:\n    X-Frame-Options: never\n", `F:3: http_server_config.headers.X-Frame-Options: "never" is none of deny, sameorigin`},
		"rate without burst": {"rate_limit:\n  interval: 1s\n", "F:2: rate_limit: interval without burst refuses every request: set burst to 1 or more"},
		"rate not a time":    {"rate_limit:\n  interval: often\n  burst: -1\n", "F:2: rate_limit.interval: \"often\" is not a duration such as 1s or 500ms\nF:3: rate_limit.burst: must be a whole number, 0 or more"},
		"all at once": {
			"tls_server_config:\n  cert_file: gone.crt\n  key_file: gone.key\n  min_version: SSL3\nbasic_auth_users:\n  alice: secret\nwhatever: 1\n",
			`F:2: tls_server_config.cert_file: D/gone.crt: no such file or directory
F:3: tls_server_config.key_file: D/gone.key: no such file or directory
F:4: tls_server_config.min_version: "SSL3" is none of TLS10, TLS11, TLS12, TLS13
F:6: basic_auth_users.alice: is not a bcrypt hash; htpasswd -nBC 10 alice makes one
F:7: whatever: unknown key`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := d.file(strings.ReplaceAll(name, " ", "-") + ".yml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			want := strings.NewReplacer("F:", path+":", "D/", d.path+"/", "D:", d.path+":").Replace(tt.want)
			err := Validate(path)
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if problems, ok := errors.AsType[Problems](err); !ok || len(problems) != strings.Count(want, "\n")+1 {
				t.Errorf("got %d problems of type %T", len(problems), err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("the error shows a password")
			}
		})
	}
}

func TestFileMissingOrHuge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yml")
	if err, want := Validate(path), path+": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if UsesTLS(path) {
		t.Error("UsesTLS of a file that is not there")
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err, want := Validate(path), path+": more than 1048576 bytes"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// No text makes the reader panic, hang or give an error without a line.
func FuzzFile(f *testing.F) {
	f.Add("tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n  client_allowed_sans: [a]\n")
	f.Add("http_server_config:\n  http2: false\n  headers: {X-Frame-Options: deny}\nrate_limit: {interval: 1s, burst: 1}\n")
	f.Add("basic_auth_users: &a\n  alice: *a\n")
	f.Add("a: b: c\n")
	f.Add("<<: {a: b}\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := &reader{file: "web.yml"}
		start := time.Now()
		file, _ := r.parse([]byte(text))
		r.checkUsers(file.users)
		r.checkHeaders(file.headers)
		if time.Since(start) > 5*time.Second {
			t.Error("slow")
		}
		for _, p := range r.problems {
			if p.What == "" {
				t.Errorf("empty problem: %+v", p)
			}
		}
	})
}
