package main

// row is one line of the fault table: one kind of trouble, at one step.
type row struct {
	group, step string
	runs        int  // in the full program
	quick       bool // one run of it is part of make test
	waits       bool // it waits for timeouts most of its time: beside others
	do          func(*trial)

	// expand, if there is one, makes the rows that this one stands for; it is
	// called with the trial around all others.
	expand func(*trial) []row
}

// groups are the sections of the table, in its order.
func groups() []string {
	return []string{groupKillSidecar, groupKillRedis, groupKillDir, groupKillRestore, groupKillLoad, groupStore, groupDisk, groupServer, groupUploaders, groupCredentials}
}

const (
	groupKillSidecar = "kill -9 of the sidecar during a snapshot"
	groupKillRedis   = "kill -9 of redis-server during a snapshot"
	groupKillDir     = "kill -9 of the sidecar at each system call on the store's directory"
	groupKillRestore = "kill -9 of restore at each system call on the data directory"
	groupKillLoad    = "kill -9 of redis-server while it starts from a restore"
	groupStore       = "trouble of the store"
	groupDisk        = "full disks"
	groupServer      = "what others do to the server meanwhile"
	groupUploaders   = "two uploaders"
	groupCredentials = "credentials that expire"
)

// rows returns the whole table.
func rows() []row {
	var all []row
	for _, some := range [][]row{killSnapshotRows(), killDirRows(), killRestoreRows(), storeRows(), diskRows(), serverRows(), uploaderRows(), credentialRows()} {
		all = append(all, some...)
	}
	return all
}
