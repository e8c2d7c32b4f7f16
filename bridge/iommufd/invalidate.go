//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// maxBatch limits the commands of one request. Older kernels copy them to contiguous memory, and an
// allocation of 32 KiB does not fail.
const maxBatch = 2048

// batch holds the commands of the next requests. It belongs to the host so that Invalidate
// allocates nothing.
type batch struct {
	arg  uapi.HWPTInvalidate
	n    int
	cmds [maxBatch]smmuv3.Command
}

// Invalidate implements bridge.Host. The commands go to the kernel in order. A request holds up to
// 2048 commands, which are either all ATC_INVs or all other commands. The kernel ends each request
// with a SYNC, and a TLBI must complete before the ATC_INV that follows it (§4.5.1). On hardware
// with erratum T264-SMMU-3, the host sends TLBI and CFGI commands twice.
//
// Invalidate clears reserved fields. It interprets the other fields by the ID registers of
// SetGuestIDs. It drops commands without effect: CFGI_CD, CFGI_CD_ALL and ATC_INV for streams that
// do not use CDs or ATS, and TLBIs while stage 1 translates for no stream.
//
// On return, all faults that the kernel has reported have reached the sink of Events. A kernel
// thread moves faults from the hardware's event queue, and no request waits for that thread. A
// fault may therefore arrive after Invalidate returns.
//
// After an error, each command may or may not have been executed. The kernel's count of handled
// commands is not exact, so the host does not rely on it. No error is bridge.ErrATCTimeout: if an
// endpoint does not complete an ATC_INV in time, the kernel logs it and the request succeeds.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	if err := h.made(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errHostClosed
	}
	if h.nest == nil {
		return nil // no device, so no translation
	}
	err := h.send(cmds...)
	h.deliverFaults()
	return err
}

// send executes the commands. It sends none if one of them is not a command that a host executes.
func (h *Host) send(cmds ...smmuv3.Command) error {
	set := h.nest.commands
	if len(cmds) > maxBatch { // in a shorter batch, the loop below checks all commands before it sends any
		for i := range cmds {
			if !set.executes(&cmds[i]) {
				return notExecuted(cmds[i])
			}
		}
	}
	b := &h.batch
	b.n = 0
	for i := range cmds {
		c := &b.cmds[b.n]
		if !set.physical(c, &cmds[i]) {
			return notExecuted(cmds[i])
		}
		if !h.hasEffect(c) {
			continue
		}
		if b.n++; b.n == maxBatch {
			if err := h.flush(); err != nil {
				return err
			}
		}
	}
	return h.flush()
}

func notExecuted(c smmuv3.Command) error {
	return fmt.Errorf("%v is not a command a host executes", c.Opcode())
}

// hasEffect reports whether the command can invalidate something. The kernel answers a command for
// an unknown StreamID with an error. In the architecture, such a command has no effect (§4.1.7).
func (h *Host) hasEffect(c *smmuv3.Command) bool {
	switch c.Opcode() {
	case smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll:
		// A stream that does not translate has no cached CDs: the change of its STE dropped them
		// (§4.3.1).
		s := h.streams[c.StreamID()]
		return s != nil && s.own != 0
	case smmuv3.OpATCInv:
		// The kernel enables ATS only for streams with EATS, and drops the endpoint's translations
		// when it disables ATS. An SMMU without ATS raises CERROR_ILL.
		s := h.streams[c.StreamID()]
		return s != nil && s.usesATS()
	}
	if h.translating == 0 {
		h.missed = true // catchUp removes the stale translations before a stream can use them
		return false
	}
	return true
}

// catchUp invalidates all translations if TLBIs were dropped while stage 1 translated for no
// stream. A change of the STE keeps translations (§4.3.1), and the guest keeps its VMID.
func (h *Host) catchUp() error {
	if !h.missed {
		return nil
	}
	h.batch.cmds[0], h.batch.n = smmuv3.NewTLBINSNHAll(), 1
	err := h.flush()
	h.missed = err != nil
	return err
}

// flush sends the batch, as one request for each run of ATC_INVs or other commands.
func (h *Host) flush() error {
	b := &h.batch
	cmds := b.cmds[:b.n]
	b.n = 0
	for len(cmds) > 0 {
		atc, n := isATC(&cmds[0]), 1
		for n < len(cmds) && isATC(&cmds[n]) == atc {
			n++
		}
		if err := h.request(cmds[:n]); err != nil {
			return err
		}
		// T264-SMMU-3: a TLBI or CFGI may fail to take effect unless it and its SYNC are repeated.
		if h.nest.repeats && !atc {
			if err := h.request(cmds[:n]); err != nil {
				return err
			}
		}
		cmds = cmds[n:]
	}
	return nil
}

func isATC(c *smmuv3.Command) bool { return c.Opcode() == smmuv3.OpATCInv }

// request sends commands of the batch in one request.
func (h *Host) request(cmds []smmuv3.Command) error {
	n := uint32(len(cmds))
	h.batch.arg = uapi.HWPTInvalidate{
		Size:     uapi.SizeOf[uapi.HWPTInvalidate](),
		HWPTID:   uint32(h.nest.viommu),
		Data:     unsafe.Pointer(unsafe.SliceData(cmds)),
		DataType: uapi.InvalidateDataARMSMMUv3,
		EntryLen: smmuv3.CommandSize,
		EntryNum: n,
	}
	h.counts.requests.Add(1)
	h.counts.commands.Add(uint64(n))
	if err := h.k.invalidate(&h.batch.arg); err != nil {
		return fmt.Errorf("%d commands: %w", n, err)
	}
	if done := h.batch.arg.EntryNum; done != n {
		return fmt.Errorf("%s: the kernel handled %d of %d commands", opInvalidate, done, n)
	}
	return nil
}
