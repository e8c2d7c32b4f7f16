//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// maxBatch is how many commands are sent in one request. The kernel takes more, but copies them to memory that it wants in one
// piece, and up to 32 KiB it is sure to find that.
const maxBatch = 2048

// batch is a request under way. It is kept, so that none has to be allocated.
type batch struct {
	arg  uapi.HWPTInvalidate
	n    int
	cmds [maxBatch]smmuv3.Command
}

// Invalidate is bridge.Host's. All commands go to the kernel in one request, unless there are more than 2048 or a hardware
// erratum has them repeated. What a command has in reserved fields is left out, and so are commands that have nothing to do:
// those for streams that are not attached, and, while stage 1 translates for no stream, those for translations.
//
// All faults that the kernel has told of by then have reached the sink of Events. Between the hardware's event queue and the
// kernel's there is a thread of the kernel's own, and no request tells whether it has caught up: a fault may still come late.
//
// An error is one of all commands: how many the kernel says to have handled means nothing then, as it has converted them in
// blocks and issued fewer. None is bridge.ErrATCTimeout: where an endpoint does not complete an ATC_INV in time, the kernel tries
// the SYNC again, which then completes, and tells nobody but its log; one that never completes is ETIMEDOUT, whatever it
// waits for.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("iommufd: invalidate: %w", bridge.ErrClosed)
	}
	if h.nest == nil {
		return nil // nothing has been translated yet
	}
	err := h.send(cmds...)
	h.settle()
	if err != nil {
		return fmt.Errorf("iommufd: invalidate: %w", err)
	}
	return nil
}

func (h *Host) send(cmds ...smmuv3.Command) error {
	h.batch.n = 0
	for _, c := range cmds {
		c, ok := h.nest.commands.physical(c)
		if !ok {
			return fmt.Errorf("%v is none of a host's commands", c.Opcode())
		}
		if !h.concerns(c) {
			continue
		}
		h.batch.cmds[h.batch.n] = c
		h.batch.n++
		if h.batch.n == maxBatch {
			if err := h.flush(); err != nil {
				return err
			}
		}
	}
	return h.flush()
}

// concerns reports whether a command has anything to do here. The kernel answers one for a StreamID that it does not know with
// an error, where the architecture has it do nothing (§4.1.7).
func (h *Host) concerns(c smmuv3.Command) bool {
	switch c.Opcode() {
	case smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll:
		// A stream that does not translate has no CD. Those it had went with its STE (§4.3.1).
		s := h.streams[c.StreamID()]
		return s != nil && s.own != 0
	case smmuv3.OpATCInv:
		// An SMMU without ATS takes the command for an error, and a device without it caches nothing.
		s := h.streams[c.StreamID()]
		return s != nil && h.nest.ids.Has(smmuv3.ATS) && !s.dev.noATS
	}
	// TLBI. Stale translations that nothing uses may stay, until something does: see catchUp.
	if h.translating == 0 {
		h.missed = true
		return false
	}
	return true
}

// catchUp makes up for what was not invalidated while stage 1 translated for no stream, before it does for one again: a change of
// the STE leaves translations where they are (§4.3.1), and the VMID by which the hardware knows them stays the guest's.
func (h *Host) catchUp() error {
	if !h.missed {
		return nil
	}
	h.batch.cmds[0], h.batch.n = smmuv3.NewTLBINSNHAll(), 1
	err := h.flush()
	h.missed = err != nil
	return err
}

func (h *Host) flush() error {
	n := h.batch.n
	h.batch.n = 0
	if n == 0 {
		return nil
	}
	times := 1
	if h.nest.repeats {
		// Each time with the SYNC that the kernel adds. ATC_INV goes along: it must come after a TLBI that has worked.
		times = 2
	}
	for range times {
		h.batch.arg = uapi.HWPTInvalidate{
			Size:     uapi.SizeOf[uapi.HWPTInvalidate](),
			HWPTID:   uint32(h.nest.viommu),
			Data:     unsafe.Pointer(&h.batch.cmds),
			DataType: uapi.InvalidateDataARMSMMUv3,
			EntryLen: smmuv3.CommandSize,
			EntryNum: uint32(n),
		}
		h.counts.requests.Add(1)
		h.counts.commands.Add(uint64(n))
		if err := h.k.invalidate(&h.batch.arg); err != nil {
			return fmt.Errorf("%d commands: %w", n, err)
		}
		if done := h.batch.arg.EntryNum; done != uint32(n) {
			return fmt.Errorf("%s: %d commands handled of %d", opInvalidate, done, n)
		}
	}
	return nil
}
