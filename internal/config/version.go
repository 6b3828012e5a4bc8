package config

import (
	"strconv"
	"strings"
)

// version is a release series of Redis: 100 * major + minor.
type version int

// The series between which directives came, went or changed.
const (
	v62 version = 602
	v70 version = 700
	v72 version = 702
	v74 version = 704
	v80 version = 800
)

// latest stands for a version that is not known: every directive that any
// version has is accepted, with the kind it has in the newest one.
const latest version = 1 << 30

// parseVersion reads what INFO calls redis_version. What cannot be read is
// latest; what is older than 6.2 counts as 6.2.
func parseVersion(s string) version {
	major, rest, _ := strings.Cut(s, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(major)
	if err != nil || a < 0 || a > 1000 {
		return latest
	}
	b, err := strconv.Atoi(minor)
	if err != nil || b < 0 {
		b = 0
	}
	return max(v62, version(100*a+min(b, 99)))
}

func (v version) String() string {
	return strconv.Itoa(int(v)/100) + "." + strconv.Itoa(int(v)%100)
}
