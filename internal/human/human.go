// Package human writes numbers as people read them.
package human

import (
	"fmt"
	"strconv"
)

// Bytes writes a number of bytes with a binary unit and one decimal: 1.5 GiB.
// Below 1 KiB, and for what is negative, it is whole bytes.
func Bytes(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, unit := float64(n)/(1<<10), 0
	for f >= 1<<10 && unit < len(units)-1 {
		f, unit = f/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[unit])
}
