// Package web is the sidecar's HTTP side: it listens, speaks TLS and asks for a
// password where the configuration file says so, and puts the handlers that it
// is given behind their paths, with the status page at "/".
//
// The configuration file has the format of Prometheus' exporter-toolkit
// (web.config-file). It and the files it names are looked at with every request
// and handshake and read again when they changed; a version that is not good
// leaves the one before in force.
//
// The probes and /health never ask for a password: the kubelet has none.
package web
