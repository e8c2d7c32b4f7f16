package smmuv3

import "encoding/binary"

// bits returns word[lo+width-1:lo].
func bits(word uint64, lo, width uint) uint64 {
	return word >> lo & (1<<width - 1)
}

// setBits returns word with word[lo+width-1:lo] replaced by v's low bits.
func setBits(word uint64, lo, width uint, v uint64) uint64 {
	mask := uint64(1<<width-1) << lo
	return word&^mask | v<<lo&mask
}

// bit reports whether word[lo] is set.
func bit(word uint64, lo uint) bool { return word>>lo&1 != 0 }

// setBit returns word with word[lo] as v says.
func setBit(word uint64, lo uint, v bool) uint64 {
	if v {
		return word | 1<<lo
	}
	return word &^ (1 << lo)
}

// loadWords fills words from their little-endian form (§5: every structure in
// memory is little-endian). p holds at least 8 bytes a word.
func loadWords(words []uint64, p []byte) {
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
}

// putWords writes words to p in their little-endian form.
func putWords(p []byte, words []uint64) {
	for i, w := range words {
		binary.LittleEndian.PutUint64(p[8*i:], w)
	}
}
