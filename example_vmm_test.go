package vsmmuv3_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// registerFile is the SMMU at its address in the guest's memory map.
type registerFile struct {
	*vsmmuv3.SMMU
	base uint64
}

// HandleMMIO has the signature of the bus in github.com/c35s/hype. It gets an address, and bytes in
// the guest's order. found is false for an address of another device.
func (r registerFile) HandleMMIO(addr uint64, data []byte, isWrite bool) (found bool, err error) {
	off := addr - r.base
	if off >= smmuv3.RegisterSpace {
		return false, nil
	}
	if isWrite {
		_ = r.StoreBytes(off, data)
	} else {
		_ = r.LoadBytes(off, data) // zeroes data if the access has no register
	}
	return true, nil
}

// ReadMMIO and WriteMMIO have the signatures of github.com/tinyrange/cc, with an offset, a size and
// a value. Load and Store take the same arguments, but return no error for an invalid access.
func (r registerFile) ReadMMIO(off uint64, size int) (uint64, error) { return r.Load(off, size), nil }

func (r registerFile) WriteMMIO(off uint64, size int, value uint64) error {
	r.Store(off, size, value)
	return nil
}

// port has the methods of a device in github.com/bobuhiro11/gokvm. The device names its range, and
// accesses have an address and bytes.
type port struct{ registerFile }

func (p port) Read(addr uint64, data []byte) error  { return ignore(p.LoadBytes(addr-p.base, data)) }
func (p port) Write(addr uint64, data []byte) error { return ignore(p.StoreBytes(addr-p.base, data)) }
func (p port) IOPort() uint64                       { return p.base }
func (p port) Size() uint64                         { return smmuv3.RegisterSpace }

// ignore drops the error of an invalid access, since any guest can cause it.
func ignore(err error) error {
	if errors.Is(err, vsmmu.ErrAccess) {
		return nil
	}
	return err
}

// exit is the reason why a vCPU has left the guest.
type exit struct {
	addr  uint64
	data  []byte // of an MMIO access
	write bool
	off   bool // the guest has powered off
	done  chan struct{}
}

// run is the loop of a vCPU. It receives exits from a channel here, and from KVM_RUN in a VMM. An
// access is complete when run resumes the vCPU, so the accesses of a vCPU stay in order.
func run(exits <-chan exit, bus func(addr uint64, data []byte, isWrite bool) (bool, error)) error {
	for x := range exits {
		if x.off {
			return nil
		}
		found, err := bus(x.addr, x.data, x.write)
		switch {
		case err != nil:
			return err
		case !found && !x.write:
			clear(x.data) // no device has this address
		}
		close(x.done)
	}
	return nil
}

// vcpu runs the guest's driver. Each access is an exit.
type vcpu chan exit

const smmuAt = 0x0905_0000

func (v vcpu) access(off uint64, p []byte, write bool) {
	done := make(chan struct{})
	v <- exit{addr: smmuAt + off, data: p, write: write, done: done}
	<-done
}

func (v vcpu) Load(off uint64, size int) uint64 {
	p := make([]byte, 8)
	v.access(off, p[:size], false)
	return binary.LittleEndian.Uint64(p)
}

func (v vcpu) Store(off uint64, size int, value uint64) {
	v.access(off, binary.LittleEndian.AppendUint64(nil, value)[:size], true)
}

// A whole VMM loop has memory, an SMMU, a device behind the SMMU, and a vCPU. The guest maps a page
// for the device and unmaps it again. The methods above have the MMIO signatures of three VMMs.
func Example_vmm() {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 16<<20)}); err != nil {
		log.Fatal(err)
	}
	var pulses int
	setSPI := func(spi uint32, level bool) error { // KVM_IRQ_LINE in a VMM
		if level {
			pulses++
		}
		return nil
	}
	smmu, err := vsmmuv3.New(vsmmuv3.Config{Memory: ram, Interrupts: vsmmu.SPIs(74, setSPI)})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close()
	nic, err := smmu.Endpoint(0x20)
	if err != nil {
		log.Fatal(err)
	}

	cpu := make(vcpu)
	go func() {
		guest := vsmmutest.NewGuest(ram, guestmem.Range{GPA: 0x4000_0000, Len: 8 << 20}, cpu)
		err := guest.Enable()
		err = errors.Join(err, guest.MapStage1(0x20, 0x1000, 0x4080_0000, 0x1000))
		err = errors.Join(err, nic.WriteAt([]byte("a packet"), 0x1000)) // the device's own goroutine in a VMM
		err = errors.Join(err, guest.Unmap(0x20, 0x1000, 0x1000))
		fmt.Println("the guest:", err)
		fmt.Println("after the unmap:", errors.Is(nic.WriteAt([]byte("late"), 0x1000), soft.ErrFault))
		cpu <- exit{off: true}
	}()
	smmuRegisters := registerFile{smmu, smmuAt}
	if err := run(cpu, smmuRegisters.HandleMMIO); err != nil {
		log.Fatal(err)
	}
	p := make([]byte, 8)
	_ = ram.ReadAt(p, 0x4080_0000)
	fmt.Printf("in memory: %s\n", p)
	fmt.Println("interrupts:", pulses)

	_, _ = smmuRegisters.ReadMMIO(smmuv3.RegIDR0, 4)
	fmt.Println(port{smmuRegisters}.Read(smmuAt+1, make([]byte, 3)))
	// Output:
	// the guest: <nil>
	// after the unmap: true
	// in memory: a packet
	// interrupts: 1
	// <nil>
}
