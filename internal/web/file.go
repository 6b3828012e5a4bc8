package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// maxFile bounds every file that is read here.
const maxFile = 1 << 20

// state is a configuration file that was found good, ready for use.
type state struct {
	tls     *tls.Config // nil: plain HTTP
	users   map[string]credential
	headers map[string]string
	limit   limit
}

// credential is what a user's password is checked against.
type credential struct {
	hash  []byte
	plain bool // hash is the SHA-256 of the password; else it is one of bcrypt
}

type limit struct {
	interval time.Duration // between two requests; 0: no limit
	burst    int
}

// tlsFile is tls_server_config as written.
type tlsFile struct {
	cert, key, clientCA             located // inline
	certFile, keyFile, clientCAFile located
	clientAuth                      located
	clientSANs                      []located
	minVersion, maxVersion          located
	ciphers, curves                 []located
}

// enabled tells whether TLS is asked for, as exporter-toolkit does.
func (f tlsFile) enabled() bool {
	for _, l := range []located{f.cert, f.key, f.clientCA, f.certFile, f.keyFile, f.clientCAFile, f.clientAuth} {
		if l.value != "" {
			return true
		}
	}
	return false
}

// Validate reads a configuration file and the files it names. The error is of
// type Problems and lists everything that is wrong.
func Validate(path string) error {
	_, _, err := load(path)
	return err
}

// UsesTLS tells whether a configuration file asks for TLS. It does not look at
// the files it names; a file that cannot be read does not ask for it.
func UsesTLS(path string) bool {
	text, err := readFile(path)
	if err != nil {
		return false
	}
	r := &reader{file: path}
	f, _ := r.parse(text)
	return f.tls.enabled()
}

// file is a configuration file as written.
type file struct {
	tls     tlsFile
	http2   bool
	headers map[string]located
	users   map[string]located
	limit   limit
}

// load reads a configuration file and what it names. The stamps are those of
// every file that it looked at, also when there is an error; they are older than
// what was read, so that a change in between is seen the next time.
func load(path string) (*state, []stamp, error) {
	r := &reader{file: path}
	text, err := r.read(path)
	if err != nil {
		r.add(0, "", "%s", reasonOf(err))
		return nil, r.stamps, r.err()
	}
	f, section := r.parse(text)
	st := &state{limit: f.limit, users: r.checkUsers(f.users), headers: r.checkHeaders(f.headers)}
	if f.tls.enabled() {
		st.tls = r.checkTLS(f.tls, section, filepath.Dir(path))
		st.tls.NextProtos = []string{"http/1.1"}
		if f.http2 {
			st.tls.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	return st, r.stamps, r.err()
}

// parse reads the document. section is the line of tls_server_config.
func (r *reader) parse(text []byte) (f file, section int) {
	f.http2 = true
	f.headers, f.users = map[string]located{}, map[string]located{}
	root := r.document(text)
	if root == nil {
		return f, 0
	}
	var preferServer bool // Go decides by itself since 1.17; the key is accepted
	r.mapping("", root, map[string]field{
		"tls_server_config": func(path string, n *yaml.Node) {
			section = n.Line
			t := &f.tls
			r.mapping(path, n, map[string]field{
				"cert": r.text(&t.cert), "key": r.text(&t.key), "client_ca": r.text(&t.clientCA),
				"cert_file": r.text(&t.certFile), "key_file": r.text(&t.keyFile), "client_ca_file": r.text(&t.clientCAFile),
				"client_auth_type": r.text(&t.clientAuth), "client_allowed_sans": r.list(&t.clientSANs),
				"min_version": r.text(&t.minVersion), "max_version": r.text(&t.maxVersion),
				"cipher_suites": r.list(&t.ciphers), "curve_preferences": r.list(&t.curves),
				"prefer_server_cipher_suites": r.boolean(&preferServer),
			})
		},
		"http_server_config": func(path string, n *yaml.Node) {
			r.mapping(path, n, map[string]field{
				"http2":   r.boolean(&f.http2),
				"headers": r.texts(f.headers),
			})
		},
		"basic_auth_users": r.texts(f.users),
		"rate_limit": func(path string, n *yaml.Node) {
			r.mapping(path, n, map[string]field{
				"interval": r.duration(&f.limit.interval),
				"burst":    r.integer(&f.limit.burst),
			})
			if f.limit.interval > 0 && f.limit.burst == 0 {
				r.add(n.Line, path, "interval without burst refuses every request: set burst to 1 or more")
			}
		},
	})
	return f, section
}

// texts reads a mapping of free keys to scalars.
func (r *reader) texts(dst map[string]located) field {
	return func(path string, n *yaml.Node) {
		r.each(path, n, func(key, value *yaml.Node) {
			v := located{line: key.Line}
			r.text(&v)(join(path, key.Value), value)
			dst[key.Value] = v
		})
	}
}

func (r *reader) checkUsers(users map[string]located) map[string]credential {
	out := make(map[string]credential, len(users))
	for _, name := range slices.Sorted(maps.Keys(users)) {
		hash := users[name]
		if _, err := bcrypt.Cost([]byte(hash.value)); err != nil {
			r.add(hash.line, "basic_auth_users."+name, "is not a bcrypt hash; htpasswd -nBC 10 %s makes one", name)
			continue
		}
		out[name] = credential{hash: []byte(hash.value)}
	}
	return out
}

// The headers that exporter-toolkit allows, with the values it allows.
func allowedHeader(name string) (values []string, ok bool) {
	switch name {
	case "Strict-Transport-Security", "X-XSS-Protection", "Content-Security-Policy":
		return nil, true
	case "X-Content-Type-Options":
		return []string{"nosniff"}, true
	case "X-Frame-Options":
		return []string{"deny", "sameorigin"}, true
	}
	return nil, false
}

func (r *reader) checkHeaders(headers map[string]located) map[string]string {
	out := make(map[string]string, len(headers))
	for name, v := range headers {
		path := "http_server_config.headers." + name
		values, ok := allowedHeader(name)
		switch {
		case !ok:
			r.add(v.line, path, "cannot be set; Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options and X-XSS-Protection can")
		case v.value == "":
		case values != nil && !slices.Contains(values, v.value):
			r.add(v.line, path, "%q is none of %s", v.value, strings.Join(values, ", "))
		case strings.ContainsAny(v.value, "\r\n"):
			r.add(v.line, path, "must be one line")
		default:
			out[name] = v.value
		}
	}
	return out
}

// checkTLS builds the TLS configuration, which is of no use when it found problems.
func (r *reader) checkTLS(f tlsFile, section int, dir string) *tls.Config {
	const path = "tls_server_config"
	read := func(key string, inline, file located) []byte {
		switch {
		case inline.value != "" && file.value != "":
			r.add(file.line, path, "both %s and %s_file are set: set one", key, key)
		case inline.value != "":
			return []byte(inline.value)
		case file.value != "":
			name := file.value
			if !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			text, err := r.read(name)
			if err != nil {
				r.add(file.line, path+"."+key+"_file", "%s: %s", name, reasonOf(err))
			}
			return text
		case key != "client_ca":
			r.add(section, path, "neither %s_file nor %s is set", key, key)
		}
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13}
	cert, key := read("cert", f.cert, f.certFile), read("key", f.key, f.keyFile)
	if cert != nil && key != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			r.add(max(f.certFile.line, f.cert.line), path, "certificate and key: %s", strings.TrimPrefix(err.Error(), "tls: "))
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	r.clientAuth(cfg, f, read("client_ca", f.clientCA, f.clientCAFile))
	r.version(&cfg.MinVersion, path+".min_version", f.minVersion)
	r.version(&cfg.MaxVersion, path+".max_version", f.maxVersion)
	if cfg.MinVersion > cfg.MaxVersion {
		r.add(max(f.minVersion.line, f.maxVersion.line), path, "min_version is above max_version")
	}
	for i, c := range f.ciphers {
		all := tls.CipherSuites()
		if n := slices.IndexFunc(all, func(s *tls.CipherSuite) bool { return s.Name == c.value }); n >= 0 {
			cfg.CipherSuites = append(cfg.CipherSuites, all[n].ID)
		} else {
			r.add(c.line, fmt.Sprintf("%s.cipher_suites[%d]", path, i), "%q is not a cipher suite that Go calls safe", c.value)
		}
	}
	for i, c := range f.curves {
		switch c.value {
		case "CurveP256":
			cfg.CurvePreferences = append(cfg.CurvePreferences, tls.CurveP256)
		case "CurveP384":
			cfg.CurvePreferences = append(cfg.CurvePreferences, tls.CurveP384)
		case "CurveP521":
			cfg.CurvePreferences = append(cfg.CurvePreferences, tls.CurveP521)
		case "X25519":
			cfg.CurvePreferences = append(cfg.CurvePreferences, tls.X25519)
		default:
			r.add(c.line, fmt.Sprintf("%s.curve_preferences[%d]", path, i), "%q is none of CurveP256, CurveP384, CurveP521, X25519", c.value)
		}
	}
	return cfg
}

// clientAuth sets what is asked of clients' certificates.
func (r *reader) clientAuth(cfg *tls.Config, f tlsFile, ca []byte) {
	const path = "tls_server_config"
	switch f.clientAuth.value {
	case "", "NoClientCert":
		cfg.ClientAuth = tls.NoClientCert
	case "RequestClientCert":
		cfg.ClientAuth = tls.RequestClientCert
	case "RequireAnyClientCert", "RequireClientCert":
		cfg.ClientAuth = tls.RequireAnyClientCert
	case "VerifyClientCertIfGiven":
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	case "RequireAndVerifyClientCert":
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		r.add(f.clientAuth.line, path+".client_auth_type",
			"%q is none of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert", f.clientAuth.value)
		return
	}
	line := max(f.clientCA.line, f.clientCAFile.line)
	verifies := cfg.ClientAuth == tls.VerifyClientCertIfGiven || cfg.ClientAuth == tls.RequireAndVerifyClientCert
	switch {
	case ca != nil:
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(ca) {
			r.add(line, path, "client_ca holds no certificate in PEM format")
		}
		if cfg.ClientAuth == tls.NoClientCert {
			r.add(line, path, "a client_ca without client_auth_type is not used: set it to RequireAndVerifyClientCert")
		}
	case verifies && line == 0:
		r.add(f.clientAuth.line, path, "%s without client_ca would trust every public authority: set client_ca_file", f.clientAuth.value)
	}
	if len(f.clientSANs) > 0 {
		if !verifies {
			r.add(f.clientSANs[0].line, path, "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert")
		}
		allowed := make([]string, len(f.clientSANs))
		for i, s := range f.clientSANs {
			allowed[i] = s.value
		}
		// Not VerifyPeerCertificate: that is left out when a session is resumed.
		cfg.VerifyConnection = func(cs tls.ConnectionState) error { return verifySAN(cs, allowed) }
	}
}

// verifySAN demands that a client's certificate, if there is one, carries one of
// the allowed names.
func verifySAN(cs tls.ConnectionState, allowed []string) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	c := cs.PeerCertificates[0]
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	if slices.ContainsFunc(names, func(n string) bool { return slices.Contains(allowed, n) }) {
		return nil
	}
	return errors.New("the client's certificate has none of client_allowed_sans")
}

func (r *reader) version(dst *uint16, path string, v located) {
	switch v.value {
	case "":
	case "TLS10":
		*dst = tls.VersionTLS10
	case "TLS11":
		*dst = tls.VersionTLS11
	case "TLS12":
		*dst = tls.VersionTLS12
	case "TLS13":
		*dst = tls.VersionTLS13
	default:
		r.add(v.line, path, "%q is none of TLS10, TLS11, TLS12, TLS13", v.value)
	}
}

// read reads a file and remembers which version of it that was.
func (r *reader) read(name string) ([]byte, error) {
	r.stamps = append(r.stamps, stampOf(name))
	return readFile(name)
}

// readFile reads a file of limited size.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	return text, nil
}

// reasonOf is an error without the path, which the message has already.
func reasonOf(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
