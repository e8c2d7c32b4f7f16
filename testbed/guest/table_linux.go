package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fillTable writes and reads TableSize bytes of a disk behind what test verifies, each by a single
// DMA mapping that fills a translation table. When the kernel unmaps it, it removes the table, and
// invalidates it by a TLBI with Leaf = 0.
//
// The kernel maps TableSize bytes by a block if their physical address is aligned to it. The buffer
// is therefore contiguous in physical memory, but begins one page after the start of a huge page.
func (d *Disk) fillTable(pattern Pattern) error {
	if os.Getpagesize() != TablePage {
		return nil
	}
	// A request of the block layer is smaller otherwise.
	if err := write("/sys/block/"+d.Name+"/queue/max_sectors_kb", fmt.Sprint(TableSize>>10)); err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/"+d.Name, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	pool, err := newHugePages()
	if err != nil {
		return err
	}
	defer pool.free()
	out, in := pool.buffers[0], pool.buffers[1]
	pattern.Fill(out, TestSize)
	if _, err := f.WriteAt(out, TestSize); err != nil {
		return err
	}
	if _, err := f.ReadAt(in, TestSize); err != nil {
		return err
	}
	if err := pattern.Check(in, TestSize); err != nil {
		return err
	}
	d.Table = TableSize
	return nil
}

// hugePages is a pool of huge pages, mapped so that buffers are contiguous in physical memory.
type hugePages struct {
	file    int
	mapped  [][]byte
	buffers [2][]byte // of TableSize bytes, one page after the start of a huge page
}

// poolSize is the number of huge pages that the kernel is asked for. Fresh from boot, most of them
// have a neighbour.
const poolSize = 12

const hugePagesFile = "/proc/sys/vm/nr_hugepages"

func newHugePages() (p *hugePages, err error) {
	if err := write(hugePagesFile, fmt.Sprint(poolSize)); err != nil {
		return nil, err
	}
	p = &hugePages{file: -1}
	defer func() {
		if err != nil {
			p.free()
		}
	}()
	p.file, err = unix.MemfdCreate("vsmmu-table", unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err != nil {
		return nil, fmt.Errorf("memfd_create of huge pages: %w", err)
	}
	if err := unix.Ftruncate(p.file, poolSize*TableSize); err != nil {
		return nil, err
	}
	all, err := unix.Mmap(p.file, 0, poolSize*TableSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d huge pages: %w", poolSize, err)
	}
	p.mapped = append(p.mapped, all)
	frames, err := framesOf(all)
	if err != nil {
		return nil, err
	}
	found := 0
	used := map[int]bool{}
	for first := range frames {
		for second := range frames {
			if found == len(p.buffers) || used[first] || used[second] ||
				frames[second] != frames[first]+TableSize/TablePage {
				continue
			}
			pair, err := p.pair(first, second)
			if err != nil {
				return nil, err
			}
			used[first], used[second] = true, true
			p.buffers[found] = pair[TablePage : TablePage+TableSize]
			found++
		}
	}
	if found < len(p.buffers) {
		return nil, fmt.Errorf("of %d huge pages too few are neighbours", poolSize)
	}
	return p, nil
}

// pair maps two huge pages of the pool one after the other.
func (p *hugePages) pair(first, second int) ([]byte, error) {
	room, err := unix.Mmap(-1, 0, 3*TableSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	p.mapped = append(p.mapped, room)
	start := unsafe.Pointer(unsafe.SliceData(room))
	start = unsafe.Add(start, -int(uintptr(start))&(TableSize-1))
	for i, page := range []int{first, second} {
		at := unsafe.Add(start, i*TableSize)
		_, err := unix.MmapPtr(p.file, int64(page)*TableSize, at, TableSize, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_SHARED|unix.MAP_FIXED|unix.MAP_POPULATE)
		if err != nil {
			return nil, fmt.Errorf("mmap of a huge page: %w", err)
		}
	}
	return unsafe.Slice((*byte)(start), 2*TableSize), nil
}

func (p *hugePages) free() {
	for _, m := range p.mapped {
		_ = unix.Munmap(m)
	}
	if p.file >= 0 {
		_ = unix.Close(p.file)
	}
	_ = write(hugePagesFile, "0")
}

// framesOf returns the physical page number of each huge page of a mapping.
func framesOf(mapping []byte) (frames []uint64, err error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const present, number = 1 << 63, 1<<55 - 1
	start := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mapping))))
	for at := uint64(0); at < uint64(len(mapping)); at += TableSize {
		var entry [8]byte
		if _, err := f.ReadAt(entry[:], int64((start+at)/TablePage*8)); err != nil {
			return nil, err
		}
		w := binary.LittleEndian.Uint64(entry[:])
		if w&present == 0 || w&number == 0 {
			return nil, errors.New("the kernel shows no physical addresses")
		}
		frames = append(frames, w&number)
	}
	return frames, nil
}
