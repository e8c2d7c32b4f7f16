//go:build !race

package guestmem

// wordwise is the greatest length in bytes of accesses that are made of atomic
// pieces. Beyond it they would cost ten times a plain copy for reads, and a
// hundred times for writes.
const wordwise = 64
