package vsmmutest

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// RegisterFile accesses the registers of an SMMU as a vCPU does. off is relative to the SMMU's
// base; size is 4 or 8 bytes. A vsmmu.Device is a RegisterFile.
type RegisterFile interface {
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
}

// Queue is the address and the size of a queue in guest memory. If it is zero, Enable allocates a
// queue.
type Queue struct {
	At       guestmem.GPA
	Log2Size uint // log2 of the number of entries
}

// Guest is a guest's driver for one SMMU.
//
// A test may set the exported fields before the first Enable. Enable fills in fields that are zero.
type Guest struct {
	*RAM
	SMMU RegisterFile

	// Streams is the Stream table. The default has two levels and 2^20 StreamIDs, or IDR1.SIDSIZE
	// bits if the SMMU has fewer. Without IDR0.ST_LEVEL the default is linear.
	Streams                                    *StreamTable
	CommandQueue, EventQueue, PageRequestQueue Queue
	// Layout is the shape of the tables that MapStage1 and MapStage2 make.
	Layout Layout
	// CR2 is the value that Enable writes to CR2, such as smmuv3.CR2_RECINVSID.
	CR2 uint32
	// NoInterrupts makes Enable leave IRQ_CTRL at 0.
	NoInterrupts bool
	// Timeout is how long the guest waits for the SMMU before it fails with ErrTimeout. The zero
	// value is 30 seconds.
	Timeout time.Duration
	// Poll is called between two reads of a register that the guest waits for. The default sleeps
	// for a moment.
	Poll func()

	ids     smmuv3.IDRegs
	asid    smmuv3.ASID // the last one in use
	vmid    smmuv3.VMID // the last one in use
	streams map[smmuv3.StreamID]*stream
	lost    bool // the event queue has overflowed
}

// Sizes and times that a Guest chooses.
const (
	log2TwoLevel = 20 // StreamIDs of a stream table of two levels
	streamSplit  = 8
	log2Commands = 8
	log2Events   = 7
	log2Requests = 7

	defaultTimeout = 30 * time.Second
	pollInterval   = 50 * time.Microsecond
)

// ErrTimeout means that a Guest waited too long.
var ErrTimeout = errors.New("timed out")

// NewGuest returns the driver of a guest whose SMMU has these registers. The driver uses only the
// area of memory. It does not access memory or registers before Enable.
func NewGuest(mem guestmem.Memory, area guestmem.Range, smmu RegisterFile) *Guest {
	return &Guest{RAM: NewRAM(mem, area), SMMU: smmu, streams: map[smmuv3.StreamID]*stream{}}
}

// Move makes the guest continue with another memory and another SMMU, as after a migration. The
// memory has the contents of the old one, and the SMMU has its saved state. The driver keeps its
// tables, queues and indices.
func (g *Guest) Move(mem guestmem.Memory, smmu RegisterFile) {
	if g == nil || g.RAM == nil {
		return
	}
	g.RAM.mem, g.SMMU = mem, smmu // the driver's structures share the RAM
}

func (g *Guest) r32(off uint64) uint32    { return uint32(g.SMMU.Load(off, 4)) }
func (g *Guest) w32(off uint64, v uint32) { g.SMMU.Store(off, 4, uint64(v)) }
func (g *Guest) w64(off uint64, v uint64) { g.SMMU.Store(off, 8, v) }

// ReadIDs reads the ID registers, as a driver does when it probes.
func (g *Guest) ReadIDs() (ids smmuv3.IDRegs) {
	for i := range ids.IDR {
		ids.IDR[i] = g.r32(smmuv3.RegIDR0 + 4*uint64(i))
	}
	ids.IIDR, ids.AIDR = g.r32(smmuv3.RegIIDR), g.r32(smmuv3.RegAIDR)
	return ids
}

// connected fails if the guest has no SMMU or no memory.
func (g *Guest) connected() error {
	switch {
	case g == nil:
		return errors.New("Guest is nil")
	case nilcheck.IsNil(g.SMMU):
		return errors.New("Guest.SMMU is nil")
	case g.RAM == nil:
		return errors.New("Guest.RAM is nil (use NewGuest)")
	}
	return nil
}

// wait polls until ok returns true.
func (g *Guest) wait(what string, ok func() bool) error {
	if err := g.connected(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if ok() {
		return nil
	}
	timeout, poll := cmp.Or(g.Timeout, defaultTimeout), g.Poll
	if poll == nil {
		poll = func() { time.Sleep(pollInterval) }
	}
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); {
		poll()
		if ok() {
			return nil
		}
	}
	if ok() {
		return nil
	}
	return fmt.Errorf("%s: %w after %v", what, ErrTimeout, timeout)
}

// SetCR0 writes CR0 and waits until CR0ACK is equal.
func (g *Guest) SetCR0(cr0 uint32) error {
	if err := g.connected(); err != nil {
		return fmt.Errorf("vsmmutest: write CR0 %#x: %w", cr0, err)
	}
	g.w32(smmuv3.RegCR0, cr0)
	what := fmt.Sprintf("vsmmutest: write CR0 %#x: CR0ACK", cr0)
	return g.wait(what, func() bool { return g.r32(smmuv3.RegCR0ACK) == cr0 })
}

// SetMSI makes the SMMU signal an interrupt by writing data to addr. cfg0 is the offset of its
// IRQ_CFG0 register, such as smmuv3.RegEVENTQ_IRQ_CFG0 (§6.3.30). Call it before Enable, since
// IRQ_CTRL guards the register. The SMMU has IDR0.MSI.
func (g *Guest) SetMSI(cfg0 uint64, addr guestmem.GPA, data uint32) {
	const cfg1, cfg2 = 8, 12 // from IRQ_CFG0 on
	g.w64(cfg0, uint64(addr))
	g.w32(cfg0+cfg1, data)
	g.w32(cfg0+cfg2, 0)
}

// SetGBPA makes all transactions bypass or abort while the SMMU is disabled (§6.3.14).
func (g *Guest) SetGBPA(abort bool) error {
	if err := g.connected(); err != nil {
		return fmt.Errorf("vsmmutest: write GBPA: %w", err)
	}
	v := uint32(smmuv3.GBPA_Update)
	if abort {
		v |= uint32(smmuv3.GBPA_ABORT)
	}
	g.w32(smmuv3.RegGBPA, v)
	return g.wait("vsmmutest: write GBPA: Update", func() bool {
		return g.r32(smmuv3.RegGBPA)&uint32(smmuv3.GBPA_Update) == 0
	})
}

// Enable enables the SMMU in the order of Linux's driver (§3.11). It disables the SMMU, allocates
// missing structures, sets up the table and the queues, invalidates everything, and enables the
// SMMU. It can be called again after Disable or a reset of the SMMU; streams keep their STEs. It
// fails if the registers do not get stores of 8 bytes whole.
func (g *Guest) Enable() error {
	if err := g.connected(); err != nil {
		return fmt.Errorf("vsmmutest: enable the SMMU: %w", err)
	}
	g.ids = g.ReadIDs()
	if err := g.SetCR0(0); err != nil {
		return err
	}
	if err := g.allocate(); err != nil {
		return err
	}
	if g.ids == (smmuv3.IDRegs{}) {
		return errors.New("vsmmutest: enable the SMMU: its ID registers read as zero" +
			" (Guest.SMMU is not its register file, or the device is closed)")
	}
	g.w32(smmuv3.RegCR2, g.CR2)
	if err := g.setBase(smmuv3.RegSTRTAB_BASE, g.Streams.Base()); err != nil {
		return err
	}
	g.w32(smmuv3.RegSTRTAB_BASE_CFG, g.Streams.Config())
	if err := g.place(g.CommandQueue, smmuv3.RegCMDQ_BASE, smmuv3.RegCMDQ_PROD, smmuv3.RegCMDQ_CONS); err != nil {
		return err
	}
	cr0 := uint32(smmuv3.CR0_CMDQEN)
	if err := g.SetCR0(cr0); err != nil {
		return err
	}
	if err := g.Run(smmuv3.NewCfgiAll(), smmuv3.NewTLBINSNHAll()); err != nil {
		return err
	}
	if err := g.place(g.EventQueue, smmuv3.RegEVENTQ_BASE, smmuv3.RegEVENTQ_PROD, smmuv3.RegEVENTQ_CONS); err != nil {
		return err
	}
	irqs := uint32(smmuv3.IRQ_CTRL_GERROR_IRQEN | smmuv3.IRQ_CTRL_EVENTQ_IRQEN)
	cr0 |= smmuv3.CR0_EVENTQEN
	if g.ids.Has(smmuv3.PRI) {
		err := g.place(g.PageRequestQueue, smmuv3.RegPRIQ_BASE, smmuv3.RegPRIQ_PROD, smmuv3.RegPRIQ_CONS)
		if err != nil {
			return err
		}
		cr0 |= smmuv3.CR0_PRIQEN
		irqs |= smmuv3.IRQ_CTRL_PRIQ_IRQEN
	}
	if g.ids.Has(smmuv3.ATS) {
		cr0 |= smmuv3.CR0_ATSCHK
	}
	if err := g.SetCR0(cr0); err != nil {
		return err
	}
	if !g.NoInterrupts {
		g.w32(smmuv3.RegIRQ_CTRL, irqs)
		acknowledged := func() bool { return g.r32(smmuv3.RegIRQ_CTRLACK) == irqs }
		if err := g.wait("vsmmutest: write IRQ_CTRL: IRQ_CTRLACK", acknowledged); err != nil {
			return err
		}
	}
	return g.SetCR0(cr0 | smmuv3.CR0_SMMUEN)
}

// place writes a queue's base, and its indices, which are 0.
func (g *Guest) place(q Queue, base, prod, cons uint64) error {
	if err := g.setBase(base, q.base()); err != nil {
		return err
	}
	g.w32(prod, 0)
	g.w32(cons, 0)
	return nil
}

// setBase writes a base register with its allocation hint, bit 62 (§6.3.24, §6.3.26), as Linux does.
// It reads the hint back: an MMIO path that cuts values to 32 bits loses it, whatever the address.
func (g *Guest) setBase(base, v uint64) error {
	v |= smmuv3.BASE_RA
	g.w64(base, v)
	if got := g.SMMU.Load(base, 8); got&smmuv3.BASE_RA == 0 {
		return fmt.Errorf("vsmmutest: enable the SMMU: an 8-byte store of %#x to %#x reads back as %#x"+
			" (does the MMIO path cut to 32 bits?)", v, base, got)
	}
	return nil
}

// base returns the value of the queue's base register (§6.3.26): ADDR and LOG2SIZE.
func (q Queue) base() uint64 { return uint64(q.At) | uint64(q.Log2Size) }

// ring returns the queue as a smmuv3.Queue, which computes indices.
func (q Queue) ring(entrySize uint64) smmuv3.Queue {
	return smmuv3.QueueBase(q.base()).Queue(entrySize, smmuv3.MaxQueueShift, smmuv3.BaseAddrMask)
}

// allocate allocates the table and the queues that the test did not choose.
func (g *Guest) allocate() (err error) {
	if g.Streams == nil {
		log2, split := uint(g.ids.Get(smmuv3.SIDSIZE)), uint(0)
		if g.ids.Has(smmuv3.STLevel) {
			log2, split = min(log2, log2TwoLevel), streamSplit
		}
		if g.Streams, err = NewStreamTable(g.RAM, log2, split); err != nil {
			return err
		}
	}
	for _, q := range []struct {
		*Queue
		field     smmuv3.IDField
		log2      uint
		entrySize uint64
	}{
		{&g.CommandQueue, smmuv3.CMDQS, log2Commands, smmuv3.CommandSize},
		{&g.EventQueue, smmuv3.EVENTQS, log2Events, smmuv3.EventSize},
		{&g.PageRequestQueue, smmuv3.PRIQS, log2Requests, smmuv3.PageReqSize},
	} {
		if q.At != 0 || q.field == smmuv3.PRIQS && !g.ids.Has(smmuv3.PRI) {
			continue
		}
		if q.Log2Size == 0 {
			q.Log2Size = min(q.log2, uint(g.ids.Get(q.field)))
		}
		if q.At, err = g.Alloc(q.entrySize << q.Log2Size); err != nil {
			return err
		}
	}
	return nil
}

// Disable disables the SMMU and its queues. GBPA then determines whether transactions bypass or
// abort.
func (g *Guest) Disable() error { return g.SetCR0(0) }
