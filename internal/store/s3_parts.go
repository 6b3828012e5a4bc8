package store

// How an upload is cut into parts. S3 allows 10,000 of them, of different sizes
// (not every server does: Cloudflare R2 wants all but the last to be equal), and a
// part is kept in memory until it was sent, so that it can be sent again. What is
// in memory at once is bounded by partsMemory for all that fits into 10,000 parts
// of that size, 234 GiB; a larger object needs larger parts, one at a time.
//
// All parts have the size that fits what is likely to come. When almost too many
// are used up, because more comes than that, the rest are larger.

// partsMemory is how many bytes of parts are in memory at once, but for a part
// that is larger by itself.
const partsMemory = 24 * mib

// mostBuffers is how many parts are in memory at once: two are on their way, and
// one is read. More are not faster.
const mostBuffers = 3

// buffers is how many parts of a size are in memory at once.
func buffers(partSize int64) int {
	return int(min(max(partsMemory/partSize, 1), mostBuffers))
}

// parts is how an upload is cut.
type parts struct {
	limit int   // of their number
	size  int64 // of the first ones
}

// cut returns how to cut an object of likely about hint bytes; 0 or less is not
// known. No part is smaller than least. There is room for twice the hint.
func cut(limit int, least, hint int64) parts {
	need := hint / 4 * 5 / int64(limit)
	if hint > maxPartSize*int64(limit) { // the product would overflow
		need = maxPartSize
	}
	need = (need/mib + 1) * mib
	return parts{limit: limit, size: min(max(least, need), maxPartSize)}
}

// late is the size of the last parts.
func (p parts) late() int64 { return min(max(partsMemory, 2*p.size), maxPartSize) }

// at returns the size of a part by its number, from 1. The large ones begin when
// just enough are left to reach 1.6 times what the small ones alone could hold.
func (p parts) at(number int) int64 {
	late := p.late()
	if late == p.size {
		return p.size
	}
	limit := int64(p.limit)
	small := (late*limit - p.size*limit*16/10) / (late - p.size)
	if int64(number) > small {
		return late
	}
	return p.size
}
