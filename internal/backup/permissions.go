package backup

// Permissions returns the commands that taking a snapshot from a source sends, with
// a setting of RDBCompression, as rules of an ACL name them. CLUSTER NODES is asked
// of a cluster's nodes only.
func Permissions(source, compression string) []string {
	commands := []string{"cluster|nodes", "config|get", "info"}
	if source != SourceStream {
		commands = append(commands, "bgsave")
		if compression != RDBCompressionServer {
			commands = append(commands, "config|set")
		}
	}
	if source == SourceStream || source == SourceAuto {
		commands = append(commands, "psync", "pubsub|numsub", "replconf")
	}
	return commands
}
