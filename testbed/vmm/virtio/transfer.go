package virtio

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"gvisor.dev/gvisor/pkg/buffer"
)

// pieceMax is the greatest size of a piece, which is mapped for one access to the storage. The
// guest's CMD_SYNC waits for the mapping, and so may a vCPU. It is also the greatest size of pooled
// memory.
const pieceMax = min(sizeMax, soft.MaxMap, buffer.MaxChunkSize)

// transfer calls use for the next n bytes, piece by piece. With write, use fills the piece, and
// otherwise reads it. A piece is mapped memory if the DMA is a Mapper, and else a copy. The driver
// may change mapped memory at the same time, so use must not base decisions on it. If transfer
// fails, earlier pieces have been used.
func (s *stream) transfer(n uint64, write bool, use func(mem []byte) error) error {
	for n > 0 {
		addr, size, err := s.take(min(n, pieceMax))
		if err != nil {
			return err
		}
		if err := usePiece(s.dma, addr, size, write, use); err != nil {
			return err
		}
		n -= uint64(size)
	}
	return nil
}

func usePiece(dma DMA, addr uint64, size int, write bool, use func(mem []byte) error) error {
	if mapper, ok := dma.(Mapper); ok {
		mapping, err := mapper.Map(addr, size, write, nil)
		if err == nil {
			defer mapping.Release()
			return useEach(mapping.Segments, use)
		}
		if errors.Is(err, soft.ErrFault) {
			return err // a copy would fault, too, and report a second event to the guest
		}
	}
	return useCopy(dma, addr, size, write, use)
}

func useEach(segments [][]byte, use func(mem []byte) error) error {
	for _, mem := range segments {
		if err := use(mem); err != nil {
			return err
		}
	}
	return nil
}

func useCopy(dma DMA, addr uint64, size int, write bool, use func(mem []byte) error) error {
	chunk := buffer.NewViewSize(size)
	defer chunk.Release()
	mem := chunk.AsSlice()
	if write {
		if err := use(mem); err != nil {
			return err
		}
		return dma.WriteAt(mem, addr)
	}
	if err := dma.ReadAt(mem, addr); err != nil {
		return err
	}
	return use(mem)
}
