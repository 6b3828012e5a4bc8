// Package config makes a running redis-server equal to its redis.conf, or says
// where it is not. It is about the server's file, not about the settings of the
// sidecar.
//
//	Load ──▶ Tree ──▶ catalogue.interpret ──▶ wanted ──▶ makePlan ──▶ CONFIG SET
//	 files    lines     names, kinds, bounds    values     differences   and read back
//
// [Check] does the first three steps offline. [Job] does all of them whenever the
// files change or the server has restarted, and in between reports every value
// that somebody changed by hand.
//
// A file is read with the grammar of redis-server itself (sdssplitargs and
// loadServerConfigFromString, Redis 6.2 to 8), is taken whole or not at all, and
// all its problems are reported at once. Values of secret directives never reach
// an error, the log or the status page.
package config
