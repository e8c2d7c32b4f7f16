package virtio

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"gvisor.dev/gvisor/pkg/buffer"
)

// pieceMax is the most memory that is used at a time. While a piece is mapped, the guest's CMD_SYNC waits for it, and so may
// a vCPU: for one access to the storage, however large the request. It is also the largest chunk that comes from a pool.
const pieceMax = min(sizeMax, soft.MaxMap, buffer.MaxChunkSize)

// transfer has use fill the next n bytes of memory, if write is set, or else take them, in pieces: where they lie, if DMA is a
// Mapper, and in a copy where that is not to be had. A driver may change what use takes meanwhile: it is data, which
// nothing is decided by. If it fails, the pieces before have been used.
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
			return err // which the guest was told of: a copy would fault, too, and tell it again
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
