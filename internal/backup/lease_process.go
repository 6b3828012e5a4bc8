package backup

// process tells one process of a machine from all others, so that one of the same
// container knows at once that a holder was killed, without waiting for its lease
// to run out.
type process struct {
	Boot      string `json:"boot"`      // of the kernel; new at every start of the machine
	Namespace string `json:"namespace"` // of process ids: pid:[4026531836]
	PID       int    `json:"pid"`
	Start     string `json:"start"` // of the process, in clock ticks since the machine's
}

// dead tells that p is of here, where the process me runs, and has ended. False
// means that it runs, or that it cannot be told.
//
// A namespace's number is given again when nothing runs in it any more, so a
// process of a namespace of the same number is one of this namespace or has ended.
func (p *process) dead(me *process) bool {
	if p == nil || me == nil || p.Boot != me.Boot || p.Namespace != me.Namespace || p.PID <= 0 {
		return false
	}
	start, gone := processStart(p.PID)
	return gone || start != "" && start != p.Start
}
