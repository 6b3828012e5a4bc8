package rdb

import (
	"strconv"
	"strings"
)

// release is the first release of a server that loads files up to a version.
type release struct {
	major, minor int
	max          int
}

// The releases that raised the version, oldest first, and the last minor release
// that is known. Every release loads all older versions, too.
var (
	redisReleases = []release{
		{2, 6, 6}, {3, 2, 7}, {4, 0, 8}, {5, 0, 9}, {7, 0, 10}, {7, 2, 11}, {7, 4, 12}, {8, 6, 13}, {8, 8, 14}, {8, 10, 15},
	}
	valkeyReleases = []release{{7, 2, 11}, {9, 0, 80}}

	newestRedis  = release{major: 8, minor: 10}
	newestValkey = release{major: 9, minor: 1}
)

// The version numbers that Valkey leaves to Redis: no release of Valkey loads
// them, unless it is told to try (rdb-version-check relaxed).
const (
	foreignMin = 12
	foreignMax = 79
)

// CanLoad tells whether a release of a server, "redis" or "valkey" (any case), can
// load the file of s, of which only Magic and Version matter. When known is false
// it is not known, and ok is false: the server or its version ("8.0.2",
// "v7.4.0-rc1") is not understood, or is newer than this program and so is the file.
//
// It speaks of the format only. Module data needs its modules, and a file with a
// database number needs a server with as many databases.
func CanLoad(server, version string, s Summary) (ok, known bool) {
	switch strings.ToLower(server) {
	case "redis":
		newest, known := MaxVersion(version)
		switch {
		case s.Magic != MagicRedis:
			return false, newest > 0
		case s.Version <= newest:
			return true, true
		}
		return false, known
	case "valkey":
		newest, known := maxVersion(version, valkeyReleases, newestValkey)
		switch {
		case newest > 0 && s.Version >= foreignMin && s.Version <= foreignMax:
			return false, true
		case s.Version <= newest:
			return true, true
		}
		return false, known
	}
	return false, false
}

// MaxVersion returns the newest RDB version that a release of Redis loads:
// "7.0.15" gives 10. When known is false the release is not: then version is 0, or
// for a release newer than this program what that loads at least.
func MaxVersion(redisVersion string) (version int, known bool) {
	return maxVersion(redisVersion, redisReleases, newestRedis)
}

func maxVersion(version string, releases []release, newest release) (maximum int, known bool) {
	major, minor, ok := parseRelease(version)
	if !ok {
		return 0, false
	}
	for _, r := range releases {
		if major > r.major || major == r.major && minor >= r.minor {
			maximum = r.max
		}
	}
	known = maximum > 0 && (major < newest.major || major == newest.major && minor <= newest.minor)
	return maximum, known
}

// parseRelease reads the first two numbers of a version.
func parseRelease(version string) (major, minor int, ok bool) {
	first, rest, ok := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if !ok {
		return 0, 0, false
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	major, err := strconv.Atoi(first)
	if err != nil || major < 0 {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(rest[:digits])
	return major, minor, err == nil
}
