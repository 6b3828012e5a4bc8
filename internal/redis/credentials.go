package redis

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxSecretFile bounds what is read as a password file.
const maxSecretFile = 1 << 20

// PasswordFromFile reads the password of a user, "" for the default one, of the
// server at addr. The file holds the password as plain text, of which one line
// end is cut, or, as redis_exporter has it, a JSON object from address
// ("redis://host:6379", "redis://user@host:6379") to password. Errors never
// repeat the content.
func PasswordFromFile(path, addr, user string) (string, error) {
	data, err := readSecretFile(path)
	if err != nil {
		return "", err
	}
	if !isMap(data) {
		text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if strings.Contains(text, "\n") {
			return "", fmt.Errorf("%s has more than one line: a password file has one", path)
		}
		return text, nil
	}
	password, found, err := passwordFromMap(data, path, addr, user)
	if err != nil {
		return "", err
	}
	if !found {
		at, _ := ParseAddress(addr) // without the password that addr may hold
		return "", fmt.Errorf("%s has no password for %s", path, at.Addr)
	}
	return password, nil
}

// ListedPassword is PasswordFromFile for a server that may not be told a password
// that is not meant for it: found is false unless the file is a JSON object with
// an entry for the address.
func ListedPassword(path, addr, user string) (password string, found bool, err error) {
	data, err := readSecretFile(path)
	if err != nil || !isMap(data) {
		return "", false, err
	}
	return passwordFromMap(data, path, addr, user)
}

func readSecretFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxSecretFile {
		return nil, fmt.Errorf("%s is %d bytes: too large for a password file", path, st.Size())
	}
	return os.ReadFile(path)
}

func isMap(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) }

func passwordFromMap(data []byte, path, addr, user string) (password string, found bool, err error) {
	var byAddr map[string]string
	if err := json.Unmarshal(data, &byAddr); err != nil {
		return "", false, fmt.Errorf("%s begins with { but is not a JSON object of strings", path)
	}
	want, err := ParseAddress(addr)
	if err != nil {
		return "", false, err
	}
	for key, p := range byAddr {
		got, err := ParseAddress(key)
		if err != nil || got.Addr != want.Addr || got.TLS != want.TLS {
			continue
		}
		switch got.User {
		case user:
			return p, true, nil
		case "": // good for every user that has no entry
			password, found = p, true
		}
	}
	return password, found, nil
}

// TLSFiles name what TLS towards the server needs.
type TLSFiles struct {
	CA                 string // PEM; empty: the system's own set
	Cert, Key          string // PEM; empty: no client certificate
	ServerName         string // empty: the host of the address
	InsecureSkipVerify bool
}

// Config reads the files.
func (t TLSFiles) Config() (*tls.Config, error) {
	cfg := &tls.Config{
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // the user asked for it by name
		MinVersion:         tls.VersionTLS12,
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" || t.Key != "" {
		if t.Cert == "" || t.Key == "" {
			return nil, errors.New("a client certificate needs both a certificate and a key")
		}
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}
