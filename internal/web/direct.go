package web

import (
	"crypto/sha256"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/redis-sidecar/redis-sidecar/internal/settings"
)

// Direct is the part of a configuration file that redis_exporter has flags for.
// The files are read again when they changed.
type Direct struct {
	CertFile, KeyFile string // PEM; both or none
	ClientCAFile      string // clients must show a certificate of this authority
	MinVersion        string // TLS1.0 … TLS1.3; "" is TLS1.2

	Username string // of the only user; "": everybody
	// Password is the user's, or Hash its bcrypt hash.
	Password, Hash settings.Secret
}

// Validate reads the files. The error is of type Problems and lists everything
// that is wrong, by the names of the settings.
func (d Direct) Validate() error {
	_, _, err := d.load()
	return err
}

// UsesTLS tells whether TLS is asked for.
func (d Direct) UsesTLS() bool { return d.tls().enabled() }

func (d Direct) tls() tlsFile {
	f := tlsFile{
		certFile: located{value: d.CertFile}, keyFile: located{value: d.KeyFile}, clientCAFile: located{value: d.ClientCAFile},
		minVersion: located{value: strings.ReplaceAll(d.MinVersion, ".", "")},
	}
	if d.ClientCAFile != "" {
		f.clientAuth.value = "RequireAndVerifyClientCert"
	}
	return f
}

// load is load of a file that says the same.
func (d Direct) load() (*state, []stamp, error) {
	r := &reader{}
	st := &state{users: map[string]credential{}}
	if f := d.tls(); f.enabled() {
		st.tls = r.checkTLS(f, 0, "")
		st.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	switch {
	case d.Username == "":
	case d.Hash != "":
		st.users[d.Username] = credential{hash: []byte(d.Hash.Reveal())}
		if _, err := bcrypt.Cost([]byte(d.Hash.Reveal())); err != nil {
			r.add(0, "web.basic-auth.hash-password", "is not a bcrypt hash; htpasswd -nBC 10 NAME makes one")
		}
	default:
		sum := sha256.Sum256([]byte(d.Password.Reveal()))
		st.users[d.Username] = credential{hash: sum[:], plain: true}
	}
	for i, p := range r.problems {
		r.problems[i].Path = settingOf(p.Path)
	}
	return st, r.stamps, r.err()
}

// settingOf names the setting for a key of the configuration file.
func settingOf(path string) string {
	switch path {
	case "tls_server_config.cert_file":
		return "web.tls.cert-file"
	case "tls_server_config.key_file":
		return "web.tls.key-file"
	case "tls_server_config.client_ca_file":
		return "web.tls.client-ca-file"
	case "tls_server_config.min_version":
		return "web.tls.min-version"
	case "tls_server_config":
		return "web.tls"
	}
	return path
}
