package backup

// A dirWatch is how a save that is over within a millisecond is still caught.
// Without one the directory is polled, and such a save may take a second try.

// dirEvent is one change of a directory.
type dirEvent struct {
	kind   dirEventKind
	name   string
	cookie uint32 // the same in both halves of a rename
}

type dirEventKind int

const (
	created dirEventKind = iota
	movedFrom
	movedTo
)
