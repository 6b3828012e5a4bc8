package announce

// Permissions returns the commands that the job sends in this mode, as rules of
// an ACL name them.
func Permissions(m Mode) []string {
	switch m {
	case Off:
		return nil
	case Cluster:
		return []string{"config|get", "config|set", "info"}
	}
	// To make the link to the master anew: see remakeLink.
	return []string{"client|kill", "config|get", "config|set", "info", "role"}
}
