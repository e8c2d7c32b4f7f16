package smmuv3

// MaxQueueShift is log2 of the number of entries of the largest queue (§6.3.2).
const MaxQueueShift = 19

// QueueBase is CMDQ_BASE, EVENTQ_BASE or PRIQ_BASE (§6.3.26).
type QueueBase uint64

// Queue is the place and shape of a queue: its base register as the SMMU uses it.
type Queue struct {
	Addr      uint64 // of entry 0
	Log2Size  uint   // log2 of the number of entries, 0 to 19
	entrySize uint64
}

// Queue returns the queue that the register describes. The size is capped at maxLog2, which is
// IDR1.CMDQS, EVENTQS or PRIQS. The address is truncated to addrMask, the output address size. It
// is aligned down to the size of the queue, but at least to 32 bytes (§6.3.26).
func (b QueueBase) Queue(entrySize uint64, maxLog2 uint32, addrMask uint64) Queue {
	log2 := min(uint(b&QUEUE_BASE_LOG2SIZE), uint(maxLog2))
	align := max(entrySize<<log2, 32)
	return Queue{
		Addr:      uint64(b) & QUEUE_BASE_ADDR & addrMask &^ (align - 1),
		Log2Size:  log2,
		entrySize: entrySize,
	}
}

// Index is a queue's PROD or CONS: the number of an entry in bits [Log2Size-1:0], and the wrap bit
// above (§3.5.1). The bits above the wrap bit are ignored.
type Index uint32

// Mask returns the bits of an index and its wrap bit.
func (q Queue) Mask() Index { return 1<<(q.Log2Size+1) - 1 }

// Entry returns the address of the entry at an index.
func (q Queue) Entry(i Index) uint64 {
	return q.Addr + uint64(i&(1<<q.Log2Size-1))*q.entrySize
}

// Next returns the index n entries after i.
func (q Queue) Next(i Index, n uint32) Index { return (i + Index(n)) & q.Mask() }

// Len returns the number of entries between cons and prod. ok is false for inconsistent indices,
// which give more entries than the queue can hold: this is CONSTRAINED UNPREDICTABLE (§3.5.1).
func (q Queue) Len(prod, cons Index) (n uint32, ok bool) {
	n = uint32((prod - cons) & q.Mask())
	return n, n <= 1<<q.Log2Size
}

// Contiguous returns the number of entries from i on before the queue wraps.
func (q Queue) Contiguous(i Index) uint32 {
	return 1<<q.Log2Size - uint32(i&(1<<q.Log2Size-1))
}
