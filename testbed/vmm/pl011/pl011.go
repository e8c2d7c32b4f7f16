// Package pl011 emulates Arm's PrimeCell UART (PL011, ARM DDI 0183), as far as its Linux driver and
// earlycon use it: FIFOs and interrupts. It has no line speed, modem lines, errors or DMA.
package pl011

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// UART is a register file with an output and an input. Load and Store may be called from any
// goroutine, and wait for neither the output nor the input.
type UART struct {
	irq  func(level bool)
	in   io.ReadCloser
	done sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond // signalled by each change of a FIFO or register, and by Close
	closed  bool
	regs    [dmacr/4 + 1]uint32
	txRIS   bool // the transmit interrupt, latched
	tx, rx  fifo
	level   bool // the last argument of irq
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

// FR bits. BUSY is never set: Linux waits for BUSY after each console message, and a character in
// the transmit FIFO is never lost.
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

// writable holds the writable bits of each register. Other registers ignore writes.
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

// identification holds UARTPeriphID0-3 and UARTPCellID0-3 of revision r1p5, whose FIFOs hold 32
// characters.
var identification = [8]uint32{0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1}

// The transmit FIFO is larger than that of r1p5: a guest that waits for TXFF exits to the VMM each
// time. The triggers are those of half-full FIFOs, for any IFLS. IFLS affects only the number of
// interrupts.
const (
	txSize    = 4096
	txTrigger = txSize / 2
	rxSize    = 32
	rxTrigger = rxSize / 2
)

// New returns a UART that transmits to out, receives from in, which may be nil, and sets its
// interrupt by irq. It runs until Close. A slow out makes the guest wait, and a slow guest makes in
// wait. New fails if out or irq is nil.
//
// One goroutine of the UART writes to out. After an error of out, the UART drops what the guest
// transmits.
func New(out io.Writer, in io.ReadCloser, irq func(level bool)) (*UART, error) {
	switch {
	case nilcheck.IsNil(out):
		return nil, errors.New("pl011: new UART: no output")
	case in != nil && nilcheck.IsNil(in):
		return nil, errors.New("pl011: new UART: the input holds a nil pointer")
	case irq == nil:
		return nil, errors.New("pl011: new UART: no function to set the interrupt")
	}
	u := &UART{irq: irq, in: in, tx: newFIFO(txSize), rx: newFIFO(rxSize)}
	u.changed.L = &u.mu
	u.resetRegisters()
	u.done.Go(func() { u.transmit(out) })
	if in != nil {
		u.done.Go(u.receive)
	}
	return u, nil
}

// Reset puts the registers into their reset state, and drops received characters. Transmitted
// characters are still written to the output.
func (u *UART) Reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.resetRegisters()
	u.rx.drop(u.rx.len())
	u.update()
}

// Enable sets CR.UARTEN, until the next Reset. Firmware does that for the guest's SBSA driver: the
// SBSA's generic UART has no CR (DEN 0029, appendix B), so this driver never writes it.
func (u *UART) Enable() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.regs[cr/4] |= crUARTEN
	u.update()
}

func (u *UART) resetRegisters() {
	clear(u.regs[:])
	u.regs[cr/4] = crTXE | crRXE
	u.regs[ifls/4] = 0x12
	u.txRIS = false
}

// Close writes the transmitted characters to the output, closes the input, and waits for both to
// end. A later Close has no effect and returns an error that matches bridge.ErrClosed.
func (u *UART) Close() error {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return fmt.Errorf("pl011: close UART: %w", bridge.ErrClosed)
	}
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

// transmit moves characters from the transmit FIFO to out.
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
		// The characters stay in the FIFO until they are written, so that TXFF makes the guest
		// wait.
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

// receive moves characters from in to the receive FIFO while the guest has reception enabled.
func (u *UART) receive() {
	buf := make([]byte, len(u.rx.data))
	for {
		n, err := u.in.Read(buf)
		if !u.accept(buf[:n]) || err != nil {
			return
		}
	}
}

// accept adds p to the receive FIFO, and waits for room. It returns false after Close.
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

// Load reads the register at off. It ignores the size of the access.
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

// Store writes the register at off. Transmission does not need TXE and UARTEN: earlycon expects
// that firmware has set them, and there is no firmware.
func (u *UART) Store(off uint64, _ int, value uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch mask, ok := writable[off]; {
	case ok:
		u.regs[off/4] = uint32(value) & mask
	case off == dr:
		// A full FIFO, which TXFF reports, drops the character.
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

// raw returns RIS. The receive timeout of the hardware, 32 bit periods, is zero here: intRT is set
// while there is a character to read.
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

// update sets the interrupt and signals changed. The caller holds mu.
func (u *UART) update() {
	if level := u.raw()&u.regs[imsc/4] != 0; level != u.level {
		u.level = level
		u.irq(level)
	}
	u.changed.Broadcast()
}
