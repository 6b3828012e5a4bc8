package rdb

// The pieces of a module's value, which let it be read without the module.
const (
	modEnd    = 0
	modInt    = 1
	modUint   = 2
	modFloat  = 3
	modDouble = 4
	modString = 5
)

// moduleValue consumes the pieces up to the end mark.
func (w *walker) moduleValue() error {
	for {
		at := w.offset()
		piece, err := w.number()
		if err != nil {
			return err
		}
		switch piece {
		case modEnd:
			return nil
		case modInt, modUint:
			_, err = w.number()
		case modFloat:
			err = w.skip(4)
		case modDouble:
			err = w.skip(8)
		case modString:
			err = w.string()
		default:
			err = w.damaged(at, "unknown module opcode %d", piece)
		}
		if err != nil {
			return err
		}
	}
}

// moduleName returns the name in a module type's identity: nine letters of six
// bits each above ten bits of the encoding's version.
func moduleName(id uint64) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var name [9]byte
	id >>= 10
	for i := len(name) - 1; i >= 0; i-- {
		name[i] = letters[id&63]
		id >>= 6
	}
	return string(name[:])
}
