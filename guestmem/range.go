package guestmem

import "fmt"

// Range is Len bytes of guest-physical memory from GPA on. A range that would extend past the end
// of the address space ends there.
type Range struct {
	GPA GPA
	Len uint64
}

// Contains reports whether gpa is in the range.
func (r Range) Contains(gpa GPA) bool {
	return gpa >= r.GPA && uint64(gpa-r.GPA) < r.Len
}

// Overlaps reports whether the ranges have an address in common. An empty range overlaps none.
func (r Range) Overlaps(o Range) bool {
	return r.Len != 0 && o.Contains(r.GPA) || o.Len != 0 && r.Contains(o.GPA)
}

// String returns the first and the last address of the range, as in "0x1000 to 0x1fff".
func (r Range) String() string {
	if r.Len == 0 {
		return fmt.Sprintf("%v, empty", r.GPA)
	}
	return fmt.Sprintf("%v to %v", r.GPA, r.last())
}

// last returns the last address of the range, which is not empty.
func (r Range) last() GPA {
	if r.wraps() {
		return ^GPA(0)
	}
	return r.GPA + GPA(r.Len-1)
}

// wraps reports whether the range would extend past the end of the address space.
func (r Range) wraps() bool { return r.Len != 0 && r.Len-1 > uint64(^r.GPA) }
