// Package probe says whether redis-server has started, is alive and should get
// traffic, and why.
//
// A [Monitor] asks the server once a second on one kept connection and keeps
// what it saw. [Judge], a pure function, turns that into three verdicts. The
// HTTP handlers of the Monitor answer from the last look and never wait for
// Redis; [Ask] gets the same answer for the exec form, and [Once] looks by
// itself when no sidecar runs.
//
// Liveness asks one thing: would a restart help? Any well-formed reply, error
// or not, is life. What the sidecar cannot find out (a wrong password, a
// certificate, a name that does not resolve, its own standstill) is never death.
package probe
