package exporter

import "strings"

// tile38 is the collector of SERVER EXT of Tile38. Its fields are in the same
// table as those of INFO.
type tile38 struct{ fields *fields }

func newTile38(f *fields) *tile38 { return &tile38{f} }

func (c *tile38) name() string { return "tile38" }

func (c *tile38) ask(traits) []command {
	return []command{{"server", []string{"SERVER", "EXT"}}}
}

func (c *tile38) collect(_ *reading, replies []any, out *sink) error {
	if len(replies) == 0 || replies[0] == nil {
		return nil
	}
	list, ok := replies[0].([]any)
	if !ok {
		return odd("SERVER EXT", replies[0])
	}
	for i := 0; i+1 < len(list); i += 2 {
		name, ok1 := list[i].(string)
		value, ok2 := list[i+1].(string)
		if !ok1 || !ok2 {
			return odd("SERVER EXT", list[i])
		}
		// Some names have the prefix (tile38_version), most have not.
		if name = "tile38_" + strings.TrimPrefix(name, "tile38_"); c.fields.knows(name) {
			c.fields.emit(name, value, out)
		}
	}
	return nil
}
