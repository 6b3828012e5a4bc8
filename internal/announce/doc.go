// Package announce keeps true what redis-server tells others about its address.
//
// A pod that comes back has a new address. A replica that announces the old one
// is listed by its master, and by Sentinel, where nobody is; a cluster node that
// does looks healthy to all its peers while every client is sent to a dead
// address. So the job compares, every few seconds, its own address with
// replica-announce-ip or cluster-announce-ip, sets what is wrong, reads it back
// and has a replica re-make its link, because the address is only told when a
// link is made.
package announce
