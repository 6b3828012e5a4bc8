package exporter

import (
	"cmp"
	"slices"
	"strings"
)

// named is something that becomes series with its name as a label.
type named[T any] struct {
	name  string
	at    int // place in the reply
	value T
}

// order brings a list into the order of its series. They are added in that order,
// to six families of commands alone: each of them would have to be sorted by
// itself otherwise, which is dearer than all else that a scrape does here.
func order[T any](list []named[T]) {
	slices.SortFunc(list, func(a, b named[T]) int {
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(a.at, b.at))
	})
}
