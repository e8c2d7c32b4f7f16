// Package edu drives edu devices through VFIO: QEMU's device (docs/specs/edu.rst) and the test
// VMM's, which has more features (packages testbed/vmm/edu and testbed/vmm/edu/regs).
package edu

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// BufferSize is the size of the device's buffer. Only the DMA engine reaches the buffer.
const BufferSize = regs.BufferSize

// Device is an edu device. Its methods may be called from any goroutine. They run one at a time,
// except for Hang and Counts.
type Device struct {
	registers registers
	close     func() error
	features  regs.Feature
	own       bool       // the device is the test VMM's
	mu        sync.Mutex // held during a DMA or command: the engine executes one at a time
}

// registers are a device's registers of 64 bits.
type registers interface {
	load(off uint64) uint64
	store(off, v uint64)
}

func newDevice(r registers, close func() error) *Device {
	d := &Device{registers: r, close: close}
	if features, ok := regs.ParseFeatures(r.load(regs.Features)); ok {
		d.features, d.own = features, true
	}
	return d
}

// Close frees the device.
func (d *Device) Close() error { return d.close() }

// Own reports whether the device is the test VMM's, and not QEMU's. The test VMM's device reports
// how a DMA ended.
func (d *Device) Own() bool { return d.own }

// Has reports whether the device is the test VMM's, with all of these features.
func (d *Device) Has(want regs.Feature) bool { return d.own && d.features.Has(want) }

const (
	// usual is the time that a DMA of QEMU's edu takes.
	usual = 100 * time.Millisecond
	// timeout ends the wait for a DMA that hangs.
	timeout = 2 * time.Minute
)

var (
	// ErrQEMU means that QEMU's edu device lacks the requested feature.
	ErrQEMU = errors.New("edu: not supported by QEMU's device")
	// ErrAborted means that a DMA or command failed. A *Failed matches it.
	ErrAborted = errors.New("edu: the device reports an abort")
)

// Failed is the error of a DMA or command that failed. QEMU's edu reports no failures.
type Failed struct {
	What string
	regs.Outcome
}

func (f *Failed) Error() string {
	return fmt.Sprintf("edu: %s: %v, after %d bytes", f.What, f.Code(), f.Bytes())
}

// Is reports whether target is ErrAborted.
func (f *Failed) Is(target error) bool { return target == ErrAborted }

// Code returns how a DMA or command ended, from its error. It returns regs.Failed if the device did
// not report a code.
func Code(err error) regs.Code {
	var f *Failed
	switch {
	case err == nil:
		return regs.OK
	case errors.As(err, &f):
		return f.Code()
	}
	return regs.Failed
}

// Load makes the device read n bytes at iova into its buffer. With QEMU's device, Load returns no
// error if an access aborts.
func (d *Device) Load(iova uint64, at, n int) error { return d.LoadWith(0, iova, at, n) }

// Store makes the device write n bytes of its buffer to iova. See Load.
func (d *Device) Store(iova uint64, at, n int) error { return d.StoreWith(0, iova, at, n) }

// LoadWith is Load with attributes.
func (d *Device) LoadWith(a regs.Attrs, iova uint64, at, n int) error {
	return d.move(a, iova, uint64(regs.Buffer+at), n, regs.DMAStart)
}

// StoreWith is Store with attributes.
func (d *Device) StoreWith(a regs.Attrs, iova uint64, at, n int) error {
	return d.move(a, uint64(regs.Buffer+at), iova, n, regs.DMAStart|regs.DMAToMemory)
}

// move makes a DMA and waits for its end.
func (d *Device) move(a regs.Attrs, from, to uint64, n int, cmd uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.prepare(a, from, to, n); err != nil {
		return err
	}
	d.registers.store(regs.DMACmd, cmd)
	if !d.own {
		time.Sleep(usual)
	}
	return d.finish(fmt.Sprintf("DMA of %d bytes to %#x", n, to))
}

// prepare writes the arguments of DMA and commands. mu is held.
func (d *Device) prepare(a regs.Attrs, from, to uint64, n int) error {
	if d.own {
		d.registers.store(regs.Attributes, uint64(a))
	} else if a != 0 {
		return fmt.Errorf("attributes %#x: %w", uint64(a), ErrQEMU)
	}
	d.registers.store(regs.DMASource, from)
	d.registers.store(regs.DMADest, to)
	d.registers.store(regs.DMACount, uint64(n))
	return nil
}

// finish waits for the end of a DMA or command. mu is held.
func (d *Device) finish(what string) error {
	for end := time.Now().Add(timeout); d.busy(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("edu: %s: not done after %v", what, timeout)
		}
	}
	if !d.own {
		return nil
	}
	if o := regs.Outcome(d.registers.load(regs.Result)); o.Code() != regs.OK {
		return &Failed{what, o}
	}
	return nil
}

func (d *Device) busy() bool {
	return d.registers.load(regs.DMACmd)&regs.DMAStart != 0 || d.own && d.registers.load(regs.Command) != 0
}

// command executes a command and waits for its end.
func (d *Device) command(a regs.Attrs, command, address, from, to uint64, n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.execute(a, command, address, from, to, n)
}

// execute is command with mu held.
func (d *Device) execute(a regs.Attrs, command, address, from, to uint64, n int) error {
	if !d.own {
		return fmt.Errorf("command %#x: %w", command, ErrQEMU)
	}
	if err := d.prepare(a, from, to, n); err != nil {
		return err
	}
	d.registers.store(regs.Address, address)
	d.registers.store(regs.Command, command)
	return d.finish(fmt.Sprintf("command %#x for %#x", command, address))
}

// Translation is the response to a translation request.
type Translation struct {
	Addr                 uint64 // of the page
	Size                 uint64
	Read, Write, Execute bool
}

// Translate requests a translation, with write permission if write is set. The device does not
// store the translation.
func (d *Device) Translate(a regs.Attrs, iova uint64, write bool) (t Translation, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	command := uint64(regs.OpTranslate)
	if write {
		command |= regs.OpWrite
	}
	if err := d.execute(a, command, iova, 0, 0, 0); err != nil {
		return t, err
	}
	v := d.registers.load(regs.TranslatedAddr)
	t = Translation{
		Addr:    v &^ 0xfff,
		Size:    d.registers.load(regs.TranslatedSize),
		Read:    v&regs.MayRead != 0,
		Write:   v&regs.MayWrite != 0,
		Execute: v&regs.MayExecute != 0,
	}
	return t, nil
}

// LoadTranslated makes the device read n bytes at a translated address into its buffer.
func (d *Device) LoadTranslated(a regs.Attrs, addr uint64, at, n int) error {
	return d.command(a, uint64(regs.OpReadTranslated), addr, 0, uint64(regs.Buffer+at), n)
}

// StoreTranslated makes the device write n bytes of its buffer to a translated address.
func (d *Device) StoreTranslated(a regs.Attrs, addr uint64, at, n int) error {
	return d.command(a, uint64(regs.OpWriteTranslated), addr, uint64(regs.Buffer+at), 0, n)
}

// RequestPage sends a page request of a group. It does not wait for the response: see Responses.
func (d *Device) RequestPage(a regs.Attrs, group uint16, iova uint64, read, write, last bool) error {
	return d.command(a, regs.RequestPage(group, read, write, last), iova, 0, 0, 0)
}

// StopPASID sends a Stop Marker for the PASID of the attributes.
func (d *Device) StopPASID(a regs.Attrs) error {
	return d.command(a, uint64(regs.OpStopMarker), 0, 0, 0, 0)
}

// ClearATC drops all translations.
func (d *Device) ClearATC() error {
	return d.command(0, uint64(regs.OpClearATC), 0, 0, 0, 0)
}

// SetChunk limits the size of a transaction, in bytes. 0 means a page. It has no effect on QEMU's
// device, which always moves 4 bytes at a time.
func (d *Device) SetChunk(size int) {
	_ = d.ownRegister(func() { d.registers.store(regs.Chunk, uint64(size)) })
}

// Hang makes ATC invalidations wait until a call with false, or until a reset. Hang does not wait
// for DMA.
func (d *Device) Hang(hang bool) error {
	if !d.own {
		return ErrQEMU
	}
	v := uint64(0)
	if hang {
		v = regs.ControlHang
	}
	d.registers.store(regs.Control, v)
	return nil
}

// Counts are the counters of the device.
type Counts struct {
	ATCEntries    uint64 // translations in the ATC
	Invalidations uint64 // since the reset
	PageGroups    uint64 // groups that wait for a response
	PageResponses uint64 // since the reset
}

// Counts returns the counters. It does not wait for DMA.
func (d *Device) Counts() (c Counts, err error) {
	if !d.own {
		return c, ErrQEMU
	}
	return Counts{
		ATCEntries:    d.registers.load(regs.ATCEntries),
		Invalidations: d.registers.load(regs.Invalidations),
		PageGroups:    d.registers.load(regs.PageGroups),
		PageResponses: d.registers.load(regs.PageResponses),
	}, nil
}

// Invalidation is an invalidation of the ATC, from First to Last.
type Invalidation struct {
	First, Last uint64
	PASID       uint32 // if HasPASID
	HasPASID    bool
	Global      bool // all PASIDs
}

// Invalidations returns and clears the log of invalidations. The log holds the first regs.LogSize
// invalidations.
func (d *Device) Invalidations() (list []Invalidation, err error) {
	err = d.ownRegister(func() {
		for {
			v := d.registers.load(regs.InvalidationInfo)
			if v&regs.LogValid == 0 {
				return
			}
			list = append(list, Invalidation{
				First:    d.registers.load(regs.InvalidationFirst),
				Last:     d.registers.load(regs.InvalidationLast),
				PASID:    regs.Attrs(v).PASID(),
				HasPASID: regs.Attrs(v).Has(regs.HasPASID),
				Global:   v&regs.InvalidationGlobal != 0,
			})
			d.registers.store(regs.InvalidationInfo, 0)
		}
	})
	return list, err
}

// Responses returns and clears the log of page responses. The log holds the first regs.LogSize
// responses.
func (d *Device) Responses() (list []regs.Response, err error) {
	err = d.ownRegister(func() {
		for {
			v := d.registers.load(regs.PageResponse)
			if v&regs.LogValid == 0 {
				return
			}
			list = append(list, regs.Response(v))
			d.registers.store(regs.PageResponse, 0)
		}
	})
	return list, err
}

// ownRegister calls access if the device is the test VMM's, while no DMA or command runs.
func (d *Device) ownRegister(access func()) error {
	if !d.own {
		return ErrQEMU
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	access()
	return nil
}
