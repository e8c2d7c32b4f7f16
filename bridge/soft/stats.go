package soft

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Stats are the counts of a Host's endpoints. They marshal to JSON.
type Stats struct {
	Endpoints map[smmuv3.StreamID]EndpointStats `json:"endpoints"` // the attached ones
}

// EndpointStats counts the DMA of an endpoint since NewEndpoint.
type EndpointStats struct {
	// Transactions is the number of parts of an access that one translation covers.
	Transactions uint64 `json:"transactions"`
	// BytesRead and BytesWritten also count transactions that the guest terminated as RAZ/WI.
	BytesRead    uint64 `json:"bytes_read"`
	BytesWritten uint64 `json:"bytes_written"`
	// Misses is the number of translations that no cache had: walks of the guest's tables. It does not
	// include the pages of a large access after its first, which do not use the TLB.
	Misses uint64 `json:"misses"`
	// Faults is the number of accesses and translation requests that failed with a *Fault.
	Faults uint64 `json:"faults"`
}

// Stats returns the counts of the attached endpoints. It returns none for a closed host.
func (h *Host) Stats() Stats {
	s := Stats{Endpoints: map[smmuv3.StreamID]EndpointStats{}}
	if h.made() != nil {
		return s
	}
	h.endpoints.mu.RLock()
	defer h.endpoints.mu.RUnlock()
	for sid, e := range h.endpoints.bySID {
		s.Endpoints[sid] = e.Stats()
	}
	return s
}

// Stats returns the endpoint's counts. It reads them one by one, so they may not add up while DMA
// is in flight. A detached endpoint keeps its counts.
func (e *Endpoint) Stats() EndpointStats {
	if e == nil {
		return EndpointStats{}
	}
	s := EndpointStats{Faults: e.counts.faults.Load()}
	for p := e.counts.places.Load(); p != nil; p = p.next {
		s.Transactions += p.reads.transactions.Load() + p.writes.transactions.Load()
		s.BytesRead += p.reads.bytes.Load()
		s.BytesWritten += p.writes.bytes.Load()
		s.Misses += p.misses.Load()
	}
	return s
}

// counts are the counters of an endpoint. Each transaction is counted at the place of its section
// (guestmem.Sections). No other goroutine writes to the counters of that place at the same time, so
// they need neither a lock nor a locked instruction.
type counts struct {
	places atomic.Pointer[placeCounts] // a list of the places that have been used
	faults atomic.Uint64
}

// placeCounts are the counters of a place. Sections without a place share the counters of place
// guestmem.Places, to which any number of goroutines may write. placeCounts fills a cache line.
type placeCounts struct {
	reads, writes moved
	misses        atomic.Uint64
	place         uint
	next          *placeCounts
	_             uint64
}

// moved counts transactions and their bytes.
type moved struct{ transactions, bytes atomic.Uint64 }

// of returns the counters of a section's place.
func (c *counts) of(s guestmem.Section) *placeCounts {
	for {
		first := c.places.Load()
		for p := first; p != nil; p = p.next {
			if p.place == s.Place() {
				return p
			}
		}
		c.places.CompareAndSwap(first, &placeCounts{place: s.Place(), next: first})
	}
}

// at returns the counters for transactions of one direction.
func (c *counts) at(s guestmem.Section, write bool) *moved {
	p := c.of(s)
	if write {
		return &p.writes
	}
	return &p.reads
}

// addOwn counts transactions of n bytes. No other goroutine writes to m at the same time.
func (m *moved) addOwn(transactions, n int) {
	store(&m.transactions, m.transactions.Load()+uint64(transactions))
	store(&m.bytes, m.bytes.Load()+uint64(n))
}

// count counts transactions of n bytes in a section.
func (e *Endpoint) count(s guestmem.Section, transactions, n int, write bool) {
	m := e.counts.at(s, write)
	if s.Place() < guestmem.Places {
		m.addOwn(transactions, n)
		return
	}
	m.transactions.Add(uint64(transactions))
	m.bytes.Add(uint64(n))
}

// countMiss counts a walk of the guest's tables in a section.
func (e *Endpoint) countMiss(s guestmem.Section) {
	n := &e.counts.of(s).misses
	if s.Place() < guestmem.Places {
		store(n, n.Load()+1)
		return
	}
	n.Add(1)
}

// counted counts a transaction of n bytes, unless it has failed, and returns its outcome.
func (b *binding) counted(s guestmem.Section, n int, write bool, f *Fault) (int, *Fault) {
	if f == nil {
		b.ep.count(s, 1, n, write)
	}
	return n, f
}

// failed counts a fault and returns it.
func (e *Endpoint) failed(f *Fault) *Fault {
	if e != nil {
		e.counts.faults.Add(1)
	}
	return f
}
