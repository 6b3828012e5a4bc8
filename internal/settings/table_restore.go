package settings

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"time"
)

// restoreTable are the settings of restore beyond what and where.
func restoreTable() []entry {
	return []entry{
		{
			name:  "restore.redis-server",
			value: str(func(s *Settings) *string { return &s.Restore.RedisServer }).withHint("for example /usr/local/bin/redis-server"),
			help:  "Path of the redis-server (or valkey-server) that will start, as seen here: it is run once with --version, in place of restore.redis-version.",
		},
		{
			name:  "restore.pod",
			value: str(func(s *Settings) *string { return &s.Restore.Pod }),
			help:  "Only snapshots that the pod of this name made: latest is then its newest. Empty: any pod's.",
		},
		{
			name:  "restore.instance",
			value: str(func(s *Settings) *string { return &s.Restore.Instance }),
			help:  "Restore from another instance's snapshots: a clone. Empty: backup.instance.",
		},
		{
			name:  "restore.store",
			value: str(func(s *Settings) *string { return &s.Restore.Store }),
			help:  "Restore from another store. Empty: backup.store.",
		},
		{
			name:  "restore.only-pod",
			value: str(func(s *Settings) *string { return &s.Restore.OnlyPod }),
			help:  "The pod that is always the master, such as redis-0: it alone restores, the others start empty and copy it. Empty: every pod whose peers hold no data.",
		},
		{
			name:  "restore.peers",
			value: addresses(func(s *Settings) *[]string { return &s.Restore.Peers }).withHint("a headless service such as redis-pods, or redis-1.redis-pods:6379,redis-2.redis-pods:6379"),
			help:  "The other servers of this Redis: a name stands for all its addresses, and this pod's own is left out. They are asked before anything is written, and nothing is restored over the data they hold. They are told the user and password of redis.*; without a scheme they get TLS when redis.addr has it.",
		},
		{
			name:  "restore.sentinels",
			value: addresses(func(s *Settings) *[]string { return &s.Restore.Sentinels }).withHint("for example sentinel.redis:26379"),
			help:  "Sentinels to ask for the master and its replicas, which are asked then as restore.peers are.",
		},
		{
			name: "restore.sentinel-master", def: "mymaster",
			value: str(func(s *Settings) *string { return &s.Restore.SentinelMaster }),
			help:  "Name under which the Sentinels of restore.sentinels know the master.",
		},
		{
			name: "restore.peers-wait", def: "10s",
			value: duration(func(s *Settings) *time.Duration { return &s.Restore.PeersWait }, 0, time.Hour),
			help:  "How long peers may take to answer, or to answer clearly. Those that nothing listens at for so long are taken to be down.",
		},
		{
			name: "restore.if-peers", def: "heed",
			value: oneOf(func(s *Settings) *string { return &s.Restore.IfPeers }, "heed", "restore"),
			help:  "What to do when a peer holds data: heed it, or restore all the same, to go back to a snapshot on purpose.",
		},
		{
			name: "restore.if-peers-unclear", def: "heed",
			value: oneOf(func(s *Settings) *string { return &s.Restore.IfPeersUnclear }, "heed", "restore"),
			help:  "What to do when a peer is there but does not say what it holds (wrong password, no right, hung): fail, or restore all the same.",
		},
		{
			name:  "restore.uid",
			value: optional(func(s *Settings) **int { return &s.Restore.UID }),
			help:  "User that gets the restored files, by number. Empty: the owner of the data directory. Another user than one's own takes root.",
		},
		{
			name:  "restore.gid",
			value: optional(func(s *Settings) **int { return &s.Restore.GID }),
			help:  "Group that gets the restored files, by number. Empty: that of the data directory.",
		},
		{
			name:  "restore.mode",
			value: permissions(func(s *Settings) *fs.FileMode { return &s.Restore.Mode }),
			help:  "Mode of the restored files, in octal. Empty: what the data directory allows its owner and group.",
		},
	}
}

// optional is a number that may be absent.
func optional(field func(*Settings) **int) value {
	return value{
		kind: "integer", hint: "a whole number from 0 on, or nothing",
		set: func(s *Settings, text string) error {
			*field(s) = nil
			if text == "" {
				return nil
			}
			n, err := strconv.Atoi(text)
			if err != nil {
				return errors.New("not a whole number")
			}
			if n < 0 || n > math.MaxInt32 {
				return errors.New("out of range")
			}
			*field(s) = &n
			return nil
		},
		get: func(s *Settings) string {
			if n := *field(s); n != nil {
				return strconv.Itoa(*n)
			}
			return ""
		},
	}
}

// permissions are the bits of chmod. The owner must be able to read.
func permissions(field func(*Settings) *fs.FileMode) value {
	return value{
		kind: "octal", hint: "for example 0640",
		set: func(s *Settings, text string) error {
			*field(s) = 0
			if text == "" {
				return nil
			}
			n, err := strconv.ParseUint(text, 8, 32)
			if err != nil {
				return errors.New("not an octal number")
			}
			if n&^0o777 != 0 || n&0o400 == 0 || n&0o111 != 0 {
				return errors.New("not the mode of a file that its owner can read")
			}
			*field(s) = fs.FileMode(n)
			return nil
		},
		get: func(s *Settings) string {
			if m := *field(s); m != 0 {
				return "0" + strconv.FormatUint(uint64(m), 8)
			}
			return ""
		},
	}
}
