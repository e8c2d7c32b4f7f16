// Package pl011 is a model of Arm's PrimeCell UART (PL011, ARM DDI 0183), as far as its Linux driver and earlycon use it:
// FIFOs and interrupts, but no line speed, no modem lines, no errors, no DMA.
package pl011

import (
	"io"
	"sync"
)

// UART is the register file and what moves characters behind it. Load and Store may be called from any vCPU's goroutine,
// and wait for neither the output nor the input.
type UART struct {
	irq  func(level bool)
	in   io.ReadCloser
	done sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond // a FIFO gave up a character or took one, a register changed, or closed was set
	closed  bool
	regs    [dmacr/4 + 1]uint32
	txRIS   bool // the transmit interrupt, latched
	tx, rx  fifo
	level   bool // what irq was last told
}

// Register offsets (DDI 0183 §3.2).
const (
	dr    = 0x00
	fr    = 0x18
	lcrh  = 0x2c
	cr    = 0x30
	ifls  = 0x34
	imsc  = 0x38
	ris   = 0x3c
	mis   = 0x40
	icr   = 0x44
	dmacr = 0x48
	ids   = 0xfe0
)

// FR bits. BUSY is never set: a character in the transmit FIFO is as good as sent, and Linux waits for BUSY after every
// console message.
const (
	frRXFE = 1 << 4
	frTXFF = 1 << 5
	frRXFF = 1 << 6
	frTXFE = 1 << 7
)

// CR bits.
const (
	crUARTEN = 1 << 0
	crTXE    = 1 << 8
	crRXE    = 1 << 9
)

// Interrupts, as in IMSC, RIS, MIS and ICR.
const (
	intRX = 1 << 4
	intTX = 1 << 5
	intRT = 1 << 6
)

// writable are the bits that a register keeps; one that is not here ignores writes.
var writable = map[uint64]uint32{
	0x20:  0xff,   // ILPR
	0x24:  0xffff, // IBRD
	0x28:  0x3f,   // FBRD
	lcrh:  0xff,
	cr:    0xff87,
	ifls:  0x3f,
	imsc:  0x7ff,
	dmacr: 0x7,
}

// identification is UARTPeriphID0-3 and UARTPCellID0-3, of revision r1p5: the FIFOs have 32 places.
var identification = [8]uint32{0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1}

// The transmit FIFO has more places than the identification says, which a guest sees only by TXFF coming later; each wait
// for it would cost it an exit to the VMM. The triggers are those of half-full FIFOs whatever IFLS says: it changes how
// many interrupts there are, not what they mean.
const (
	txSize    = 4096
	txTrigger = txSize / 2
	rxSize    = 32
	rxTrigger = rxSize / 2
)

// New makes a UART that transmits to out and receives from in, which may be nil, and drives its interrupt by irq. It runs
// until Close. The guest is held back when out is slow, and in when the guest is.
//
// Out is written to by one goroutine of the UART's; after an error from it what the guest transmits is dropped.
func New(out io.Writer, in io.ReadCloser, irq func(level bool)) *UART {
	u := &UART{irq: irq, in: in, tx: newFIFO(txSize), rx: newFIFO(rxSize)}
	u.changed.L = &u.mu
	u.resetRegisters()
	u.done.Go(func() { u.transmit(out) })
	if in != nil {
		u.done.Go(u.receive)
	}
	return u
}

// Reset puts the registers into their reset state. What has been transmitted is still written out, and what came in and was not
// read is dropped.
func (u *UART) Reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resetRegisters()
	u.rx.drop(u.rx.len())
	u.update()
}

func (u *UART) resetRegisters() {
	clear(u.regs[:])
	u.regs[cr/4] = crTXE | crRXE
	u.regs[ifls/4] = 0x12
	u.txRIS = false
}

// Close writes out what was transmitted, closes the input, and waits for both to end.
func (u *UART) Close() error {
	u.mu.Lock()
	u.closed = true
	u.changed.Broadcast()
	for u.tx.len() > 0 {
		u.changed.Wait()
	}
	u.mu.Unlock()
	var err error
	if u.in != nil {
		err = u.in.Close()
	}
	u.done.Wait()
	return err
}

// transmit empties the transmit FIFO into out.
func (u *UART) transmit(out io.Writer) {
	buf := make([]byte, len(u.tx.data))
	broken := false
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		for u.tx.len() == 0 {
			if u.closed {
				return
			}
			u.changed.Wait()
		}
		// The characters keep their places until they are written: TXFF is what holds the guest back.
		n := u.tx.peek(buf)
		u.mu.Unlock()
		if !broken {
			_, err := out.Write(buf[:n])
			broken = err != nil
		}
		u.mu.Lock()
		before := u.tx.len()
		u.tx.drop(n)
		if before > txTrigger && u.tx.len() <= txTrigger {
			u.txRIS = true
		}
		u.update()
	}
}

// receive fills the receive FIFO from in while the guest has reception enabled.
func (u *UART) receive() {
	buf := make([]byte, len(u.rx.data))
	for {
		n, err := u.in.Read(buf)
		if !u.accept(buf[:n]) || err != nil {
			return
		}
	}
}

// accept puts p into the receive FIFO as room comes, and says whether to go on.
func (u *UART) accept(p []byte) bool {
	const enabled = crUARTEN | crRXE
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		if u.closed {
			return false
		}
		if u.regs[cr/4]&enabled == enabled {
			p = p[u.rx.put(p):]
			u.update()
		}
		if len(p) == 0 {
			return true
		}
		u.changed.Wait()
	}
}

// Load reads the register at off. Whatever the size, a register is at its offset only.
func (u *UART) Load(off uint64, _ int) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case off >= ids && off < ids+4*uint64(len(identification)) && off%4 == 0:
		return uint64(identification[(off-ids)/4])
	case off == dr:
		c, _ := u.rx.take()
		u.update()
		return uint64(c)
	case off == fr:
		return uint64(u.flags())
	case off == ris:
		return uint64(u.raw())
	case off == mis:
		return uint64(u.raw() & u.regs[imsc/4])
	case off <= dmacr && off%4 == 0:
		return uint64(u.regs[off/4])
	}
	return 0
}

// Store writes the register at off. TXE and UARTEN are not asked of a guest that transmits: earlycon relies on firmware
// for them, and there is none.
func (u *UART) Store(off uint64, _ int, value uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch mask, ok := writable[off]; {
	case ok:
		u.regs[off/4] = uint32(value) & mask
	case off == dr:
		// A character for which there is no place is lost, as the guest was told by TXFF.
		u.tx.put([]byte{byte(value)})
		u.txRIS = u.txRIS || u.tx.len() <= txTrigger
	case off == icr && value&intTX != 0:
		u.txRIS = false
	}
	u.update()
}

func (u *UART) flags() (f uint32) {
	if u.rx.len() == 0 {
		f |= frRXFE
	}
	if u.rx.full() {
		f |= frRXFF
	}
	if u.tx.len() == 0 {
		f |= frTXFE
	}
	if u.tx.full() {
		f |= frTXFF
	}
	return f
}

// raw is RIS. Reception is reported for as long as there is something to read: the receive timeout of the hardware, 32 bit
// times, is over at once here.
func (u *UART) raw() (r uint32) {
	if u.txRIS {
		r |= intTX
	}
	if u.rx.len() > 0 {
		r |= intRT
	}
	if u.rx.len() >= rxTrigger {
		r |= intRX
	}
	return r
}

// update drives the interrupt line, and wakes whoever waits for a change.
func (u *UART) update() {
	if level := u.raw()&u.regs[imsc/4] != 0; level != u.level {
		u.level = level
		u.irq(level)
	}
	u.changed.Broadcast()
}
