package soft

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// permissions is the set of accesses that a translation permits.
type permissions uint8

const (
	privRead permissions = 1 << iota
	privWrite
	privExecute
	unprivRead
	unprivWrite
	unprivExecute
)

const (
	anyUnpriv = unprivRead | unprivWrite | unprivExecute
	anyRead   = privRead | unprivRead
	anyWrite  = privWrite | unprivWrite
)

// hierarchy holds the limits of the table descriptors above a leaf.
type hierarchy struct {
	apTable            uint8
	uxnTable, pxnTable bool
}

// add adds the limits of one more table descriptor.
func (h *hierarchy) add(d smmuv3.Desc) {
	h.apTable |= d.APTable()
	h.uxnTable = h.uxnTable || d.UXNTable()
	h.pxnTable = h.pxnTable || d.PXNTable()
}

// permit returns the Direct permissions of a leaf, in a regime with two privilege levels (DDI
// 0487, D8.4.1.2, Table D8-65), and applies PAN (D8.4.5.1). Execution requires no read
// permission.
func permit(d smmuv3.Desc, h hierarchy, c *contextDesc) permissions {
	readOnly := d.AP()&2 != 0 || h.apTable&2 != 0
	unpriv := d.AP()&1 != 0 && h.apTable&1 == 0

	p := privRead | privExecute | unprivExecute
	if !readOnly {
		p |= privWrite
	}
	if unpriv {
		p |= unprivRead
		if !readOnly {
			p |= unprivWrite
		}
	}

	if d.UXN() || h.uxnTable || c.wxn && p&unprivWrite != 0 {
		p &^= unprivExecute
	}
	// Privileged software never executes memory that unprivileged software can write.
	if d.PXN() || h.pxnTable || p&unprivWrite != 0 || c.wxn && p&privWrite != 0 {
		p &^= privExecute
	}

	if c.pan && (unpriv || c.epan && p&unprivExecute != 0) {
		p &^= privRead | privWrite
	}
	return p
}

// permitS2 returns the Direct permissions of a leaf of stage 2. With XNX, XN distinguishes
// privileged from unprivileged execution (DDI 0487, D8.4.2). Execution requires no read
// permission.
func permitS2(d smmuv3.Desc, xnx bool) permissions {
	xn := d.XN()
	if !xnx {
		xn &= 0b10
	}
	p := [4]permissions{
		0b00: privExecute | unprivExecute, 0b01: unprivExecute, 0b10: 0, 0b11: privExecute,
	}[xn]
	if d.S2AP()&0b01 != 0 {
		p |= anyRead
	}
	if d.S2AP()&0b10 != 0 {
		p |= anyWrite
	}
	return p
}
