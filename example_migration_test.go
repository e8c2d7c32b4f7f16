package vsmmuv3_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"sync"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// All code that a VMM needs for its SMMU.

// Guest-physical addresses, an SPI, and the disk's StreamID.
const vmRAM, vmSMMU, vmSPI, vmDisk = 0x4000_0000, 0x0905_0000, 74, 0x10

// vm is the part of a VMM that uses the SMMU.
type vm struct {
	mem  *guestmem.Tracked // over the hypervisor's mapping of guest memory
	smmu *vsmmuv3.SMMU
	disk blk
}

// newVM puts the disk behind an SMMU. saved is the state of the SMMU and the disk, nil for a VM
// that boots.
func newVM(ram, storage []byte, setSPI func(uint32, bool) error, saved *savedVM) (v *vm, err error) {
	slots := new(guestmem.Slots)
	if err := slots.Add(guestmem.Slot{GPA: vmRAM, Mem: ram}); err != nil {
		return nil, err
	}
	v = &vm{disk: blk{storage: storage}}
	if v.mem, err = guestmem.NewTracked(slots); err != nil {
		return nil, err
	}
	cfg := vsmmuv3.Config{Memory: v.mem, Interrupts: vsmmu.SPIs(vmSPI, setSPI)}
	if saved != nil {
		cfg.Saved, v.disk.ring = saved.smmu, saved.disk
	}
	if v.smmu, err = vsmmuv3.New(cfg); err != nil {
		return nil, err
	}
	v.disk.dma, err = v.smmu.Endpoint(vmDisk)
	return v, err
}

// mmio handles an access of a vCPU. It reports whether the access was to the SMMU. On an invalid
// access, a load reads zero and a store has no effect.
func (v *vm) mmio(addr uint64, data []byte, write bool) (handled bool) {
	off := addr - vmSMMU // an address below vmSMMU wraps to a large offset
	switch {
	case off >= smmuv3.RegisterSpace:
		return false
	case write:
		_ = v.smmu.StoreBytes(off, data)
	default:
		_ = v.smmu.LoadBytes(off, data)
	}
	return true
}

// describe returns the SMMU's node of the device tree, and the properties that put the disk's node
// behind the SMMU.
func (v *vm) describe() (smmu firmware.Node, disk []firmware.Prop, err error) {
	const gic, iommu firmware.PHandle = 1, 2 // of the tree's nodes
	smmu, err = firmware.SMMUNode(firmware.SMMU{
		Base: vmSMMU, IDs: v.smmu.IDs(), PHandle: iommu, InterruptParent: gic,
	}.WithSPIs(vmSPI))
	if err != nil {
		return smmu, nil, err
	}
	disk, err = firmware.MasterProperties(firmware.Master{SMMU: iommu, StreamIDs: []smmuv3.StreamID{vmDisk}})
	return smmu, disk, err
}

// savedVM is the state that moves besides the memory.
type savedVM struct {
	smmu []byte
	disk ring
}

// migrate copies the memory in rounds while the guest runs, stops it, and returns the rest of its
// state. A VMM copies the pages in its hypervisor's log of the vCPUs' stores in the same rounds.
func (v *vm) migrate(all guestmem.Range, send func(guestmem.Range), stop func()) (s savedVM, err error) {
	v.mem.NewAccount()
	send(all)
	for range 3 {
		for r := range v.mem.NewAccount().Ranges() {
			send(r)
		}
	}
	stop() // the vCPUs, and then the device models
	if s.smmu, err = v.smmu.Save(); err != nil {
		return s, err
	}
	for r := range v.mem.Stop().Ranges() {
		send(r)
	}
	s.disk = v.disk.ring
	return s, v.smmu.Close()
}

// The code for the SMMU ends here. The disk is an ordinary device model of the VMM.

// ring is a split virtqueue at the addresses that its driver chose. The addresses are IOVAs.
type ring struct {
	desc, avail, used uint64
	size, next        uint16
}

// blk is a virtio block device with VIRTIO_F_ACCESS_PLATFORM (bit 33).
type blk struct {
	ring
	storage []byte
	dma     *soft.Endpoint
	mu      sync.Mutex // held by notify; a VMM that stops the device takes it
	broken  bool       // DEVICE_NEEDS_RESET
}

const sector = 512

// notify handles the requests in the ring. After a fault the device is broken until its driver
// resets it, since the driver gave a wrong address. The VM continues.
func (b *blk) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.serve(); err != nil {
		var f *soft.Fault
		b.broken = errors.As(err, &f)
	}
}

func (b *blk) serve() error {
	avail, err := b.dma.Load(b.avail+2, 2) // one access reads the index, before the entries
	if err != nil || b.broken {
		return err
	}
	for ; b.next != uint16(avail); b.next++ {
		head, err := b.dma.Load(b.avail+4+2*uint64(b.next%b.size), 2)
		if err != nil {
			return err
		}
		// The chain has three descriptors: header, data, status.
		var d [3 * 16]byte
		if err := b.dma.ReadAt(d[:], b.desc+16*(head%uint64(b.size))); err != nil {
			return err
		}
		at := func(i int) uint64 { return binary.LittleEndian.Uint64(d[16*i:]) }
		var header [16]byte
		if err := b.dma.ReadAt(header[:], at(0)); err != nil {
			return err
		}
		n := uint64(binary.LittleEndian.Uint32(d[16+8:]))
		off := sector * binary.LittleEndian.Uint64(header[8:])
		if off > uint64(len(b.storage)) || n > uint64(len(b.storage))-off {
			return errors.New("beyond the disk") // a real device sets the status
		}
		move := b.dma.WriteAt // a read of the disk
		if binary.LittleEndian.Uint32(header[:]) == 1 {
			move = b.dma.ReadAt
		}
		if err := move(b.storage[off:][:n], at(1)); err != nil {
			return err
		}
		if err := b.dma.WriteAt([]byte{0}, at(2)); err != nil {
			return err
		}
		used := make([]byte, 8)
		binary.LittleEndian.PutUint32(used, uint32(head))
		if err := b.dma.WriteAt(used, b.used+4+8*uint64(b.next%b.size)); err != nil {
			return err
		}
		if err := b.dma.Store(b.used+2, 2, uint64(b.next+1)); err != nil { // the index comes last
			return err
		}
	}
	return nil
}

// registers sends the guest driver's accesses through the VMM's MMIO path.
type registers struct{ v *vm }

func (r registers) Load(off uint64, size int) uint64 {
	p := make([]byte, 8)
	r.v.mmio(vmSMMU+off, p[:size], false)
	return binary.LittleEndian.Uint64(p)
}

func (r registers) Store(off uint64, size int, v uint64) {
	p := binary.LittleEndian.AppendUint64(nil, v)
	r.v.mmio(vmSMMU+off, p[:size], true)
}

// driver is the guest. It has a ring and a buffer in two pages, and the SMMU maps both pages for
// the disk.
type driver struct {
	*vsmmutest.Guest
	sent uint16
}

const (
	ringPage, bufPage = vmRAM + 8<<20, vmRAM + 9<<20
	ringIOVA, bufIOVA = 0xfff0_0000, 0xfff0_1000
	usedAt            = 0x800 // in the page of the ring
)

// request sends a request for one sector, and lets the disk serve it.
func (d *driver) request(v *vm, write bool, at uint64) error {
	kind := uint64(0)
	if write {
		kind = 1
	}
	const hasNext, deviceWrites = 1, 2
	data := uint64(sector) | hasNext<<32 | 2<<48
	if !write {
		data |= deviceWrites << 32
	}
	d.sent++
	return errors.Join(
		d.RAM.Store(bufPage+0x400, kind, at),
		d.RAM.Store(ringPage,
			bufIOVA+0x400, 16|hasNext<<32|1<<48,
			bufIOVA, data,
			bufIOVA+0x410, 1|deviceWrites<<32),
		d.RAM.Store(ringPage+0x100, uint64(d.sent)<<16), // avail: flags, index, entries of 0
		func() error { v.disk.notify(); return nil }(),
	)
}

// A VMM puts its virtio disk behind an SMMU, and migrates the guest while the disk does DMA. The
// top of the file is all code that the VMM needs for the SMMU.
func Example_migration() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	setSPI := func(uint32, bool) error { return nil }
	ram, storage := make([]byte, 16<<20), make([]byte, 64*sector)
	here, err := newVM(ram, storage, setSPI, nil)
	check(err)
	node, props, err := here.describe()
	check(err)
	fmt.Printf("%s; %s %x\n", node.Name, props[0].Name, props[0].Value)

	// The guest boots, and writes a sector.
	g := driver{Guest: vsmmutest.NewGuest(here.mem, guestmem.Range{GPA: vmRAM, Len: 8 << 20}, registers{here})}
	check(g.Enable())
	check(g.MapStage1(vmDisk, ringIOVA, ringPage, 0x1000))
	check(g.MapStage1(vmDisk, bufIOVA, bufPage, 0x1000))
	here.disk.ring = ring{desc: ringIOVA, avail: ringIOVA + 0x100, used: ringIOVA + usedAt, size: 4}
	check(here.mem.WriteAt([]byte("written here"), bufPage))
	check(g.request(here, true, 7))
	fmt.Printf("on the disk: %s\n", storage[7*sector:][:12])

	// The guest reads the sector while the VM moves.
	moved, rounds := make([]byte, len(ram)), 0
	send := func(r guestmem.Range) {
		check(here.mem.ReadAt(moved[r.GPA-vmRAM:][:r.Len], r.GPA))
		if rounds++; rounds == 1 {
			check(here.mem.WriteAt(make([]byte, sector), bufPage))
			check(g.request(here, false, 7))
		}
	}
	saved, err := here.migrate(guestmem.Range{GPA: vmRAM, Len: uint64(len(ram))}, send, func() {})
	check(err)
	there, err := newVM(moved, storage, setSPI, &saved)
	check(err)
	defer there.smmu.Close()
	fmt.Printf("in the moved memory: %s\n", moved[bufPage-vmRAM:][:12])

	// The driver continues on the destination. Then it unmaps the buffer.
	g.Move(there.mem, registers{there})
	check(there.mem.WriteAt([]byte("written there"), bufPage))
	check(g.request(there, true, 8))
	fmt.Printf("on the disk: %s\n", storage[8*sector:][:13])
	check(g.Abort(vmDisk))
	check(g.request(there, true, 9))
	fmt.Println("the disk is broken, and the VM runs:", there.disk.broken)
	// Output:
	// iommu@9050000; iommus 0000000200000010
	// on the disk: written here
	// in the moved memory: written here
	// on the disk: written there
	// the disk is broken, and the VM runs: true
}
