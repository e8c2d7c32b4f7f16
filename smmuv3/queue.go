package smmuv3

// MaxQueueShift is log2 of the most entries that a queue may have (§6.3.2).
const MaxQueueShift = 19

// QueueBase is CMDQ_BASE, EVENTQ_BASE or PRIQ_BASE (§6.3.26).
type QueueBase uint64

// QueueBaseMask holds the fields: RA or WA [62], ADDR [55:5], LOG2SIZE [4:0].
const QueueBaseMask = BaseRA | BaseAddrMask

// Queue is the place and shape of a queue, as its base register and the SMMU's
// limits make it.
type Queue struct {
	Addr      uint64 // of entry 0
	Log2Size  uint   // log2 of the number of entries, 0 to 19
	entrySize uint64
}

// Queue works out where the queue lies. The size is capped at maxLog2
// (IDR1.CMDQS, EVENTQS or PRIQS), the address is aligned down to the greater
// of the queue's size and 32 bytes (§6.3.26) and cut to addrMask, the output
// address size.
func (b QueueBase) Queue(entrySize uint64, maxLog2 uint32, addrMask uint64) Queue {
	log2 := min(uint(bits(uint64(b), 0, 5)), uint(maxLog2))
	align := max(entrySize<<log2, 32)
	return Queue{
		Addr:      uint64(b) & BaseAddrMask & addrMask &^ (align - 1),
		Log2Size:  log2,
		entrySize: entrySize,
	}
}

// Index is a queue's PROD or CONS: the entry's number in bits
// [Log2Size-1:0] and the wrap bit above (§3.5.1). Bits above that have other
// meanings or none, and take no part.
type Index uint32

// Mask covers the index and its wrap bit.
func (q Queue) Mask() Index { return 1<<(q.Log2Size+1) - 1 }

// Entry is the address of the entry that an index names.
func (q Queue) Entry(i Index) uint64 {
	return q.Addr + uint64(i&(1<<q.Log2Size-1))*q.entrySize
}

// Next is the index n entries after i.
func (q Queue) Next(i Index, n uint32) Index { return (i + Index(n)) & q.Mask() }

// Len is how many entries lie between cons and prod. Indices that make no
// sense, as if the queue held more than it has room for, are CONSTRAINED
// UNPREDICTABLE (§3.5.1); for them ok is false.
func (q Queue) Len(prod, cons Index) (n uint32, ok bool) {
	n = uint32((prod - cons) & q.Mask())
	return n, n <= 1<<q.Log2Size
}

// Contiguous is how many entries from i on lie at ascending addresses, before
// the queue wraps.
func (q Queue) Contiguous(i Index) uint32 {
	return 1<<q.Log2Size - uint32(i&(1<<q.Log2Size-1))
}
