package esp

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Geometry of the file system: FAT16 with clusters of 4 KiB (Microsoft's FAT specification 1.03).
const (
	sector         = 512
	clusterSectors = 8
	cluster        = clusterSectors * sector
	reserved       = 8 // sectors
	fats           = 2
	rootEntries    = 512
	entrySize      = 32
	firstCluster   = 2

	// A file system with fewer clusters is FAT12, and one with more is FAT32.
	minClusters = 4085
	maxClusters = 65524

	endOfChain = 0xffff
	directory  = 1 << 4 // attribute
	longName   = 0xf    // attribute
)

// fat builds a file system.
type fat struct {
	chains []uint16 // the allocation table
	data   []byte   // of the clusters
}

// node is a file or a directory.
type node struct {
	name     string
	data     []byte
	isDir    bool
	children []*node
	at       uint16 // its first cluster; 0 for the root and empty files
	parent   *node
}

// tree returns the root directory of files.
func tree(files []File) (*node, error) {
	root := &node{isDir: true}
	for _, f := range files {
		at := root
		parts := strings.Split(f.Path, "/")
		for i, part := range parts {
			last := i == len(parts)-1
			child := at.child(part)
			switch {
			case part == "" || len(part) > 255:
				return nil, fmt.Errorf("file %q: no path of names", f.Path)
			case child == nil:
				child = &node{name: part, isDir: !last, parent: at}
				at.children = append(at.children, child)
			case last || !child.isDir:
				return nil, fmt.Errorf("file %q: its name is in use", f.Path)
			}
			at = child
		}
		at.data = f.Data
	}
	return root, nil
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if strings.EqualFold(c.name, name) {
			return c
		}
	}
	return nil
}

// fileSystem returns a FAT16 file system that starts at a sector of the disk.
func fileSystem(files []File, start uint32) ([]byte, error) {
	root, err := tree(files)
	if err != nil {
		return nil, err
	}
	f := &fat{chains: []uint16{0xfff8, endOfChain}}
	f.place(root)
	entries := f.entries(root)
	clusters := max(len(f.data)/cluster, minClusters)
	if len(entries) > rootEntries*entrySize || clusters > maxClusters {
		return nil, fmt.Errorf("%d bytes of files do not fit", len(f.data))
	}
	tableSectors := ((clusters+firstCluster)*2 + sector - 1) / sector
	sectors := reserved + fats*tableSectors + rootEntries*entrySize/sector + clusters*clusterSectors

	out := make([]byte, sectors*sector)
	copy(out, bootSector(uint32(sectors), uint16(tableSectors), start))
	at := reserved * sector
	for range fats {
		for i, next := range f.chains {
			binary.LittleEndian.PutUint16(out[at+2*i:], next)
		}
		at += tableSectors * sector
	}
	copy(out[at:], entries)
	copy(out[at+rootEntries*entrySize:], f.data)
	return out, nil
}

// place allocates the clusters of everything below a directory, and fills them.
func (f *fat) place(dir *node) {
	for _, c := range dir.children {
		if c.isDir {
			c.at = f.allocate(make([]byte, (2+c.entryCount())*entrySize))
			f.place(c)
			copy(f.data[int(c.at-firstCluster)*cluster:], f.entries(c))
		} else if len(c.data) > 0 {
			c.at = f.allocate(c.data)
		}
	}
}

// allocate stores data in new clusters, and returns the first.
func (f *fat) allocate(data []byte) uint16 {
	first := len(f.chains)
	count := (len(data) + cluster - 1) / cluster
	for i := range count {
		f.chains = append(f.chains, uint16(first+i+1))
	}
	f.chains[len(f.chains)-1] = endOfChain
	f.data = append(f.data, data...)
	f.data = append(f.data, make([]byte, count*cluster-len(data))...)
	return uint16(first)
}

// entryCount returns the number of a directory's entries, without the entries for itself and its
// parent.
func (n *node) entryCount() (count int) {
	for i, c := range n.children {
		_, long := c.shortName(i)
		count += 1 + len(long)/entrySize
	}
	return count
}

// entries returns the contents of a directory.
func (f *fat) entries(dir *node) (out []byte) {
	if dir.parent != nil {
		out = append(out, entry(".          ", directory, dir.at, 0)...)
		out = append(out, entry("..         ", directory, dir.parent.at, 0)...)
	}
	for i, c := range dir.children {
		short, long := c.shortName(i)
		attribute := byte(0)
		if c.isDir {
			attribute = directory
		}
		out = append(out, long...)
		out = append(out, entry(short, attribute, c.at, uint32(len(c.data)))...)
	}
	return out
}

// entry returns a directory entry (§6).
func entry(short string, attribute byte, at uint16, size uint32) []byte {
	const date = 46<<9 | 1<<5 | 1 // 2026-01-01
	e := make([]byte, entrySize)
	copy(e, short)
	e[11] = attribute
	binary.LittleEndian.PutUint16(e[24:], date)
	binary.LittleEndian.PutUint16(e[26:], at)
	binary.LittleEndian.PutUint32(e[28:], size)
	return e
}

// shortName returns the 11 characters of the nth child's short name, and the entries of its long
// name. A name in the form of short names has no long name (§7).
func (n *node) shortName(index int) (short string, long []byte) {
	base, ext, _ := strings.Cut(n.name, ".")
	if n.name == strings.ToUpper(n.name) && len(base) <= 8 && len(ext) <= 3 && !strings.Contains(ext, ".") {
		return fmt.Sprintf("%-8s%-3s", base, ext), nil
	}
	short = fmt.Sprintf("FILE~%-6d", index)
	checksum := byte(0)
	for i := range len(short) {
		checksum = checksum>>1 | checksum<<7
		checksum += short[i]
	}
	const perEntry = 13
	units := append(utf16.Encode([]rune(n.name)), 0)
	count := (len(units) + perEntry - 1) / perEntry
	for len(units) < count*perEntry {
		units = append(units, 0xffff)
	}
	if units[len(units)-1] == 0 && len(units)%perEntry == 1 { // a name that fills its entries has no end
		count--
	}
	for i := count; i >= 1; i-- {
		e := make([]byte, entrySize)
		e[0] = byte(i)
		if i == count {
			e[0] |= 0x40
		}
		e[11], e[13] = longName, checksum
		for j, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
			binary.LittleEndian.PutUint16(e[at:], units[(i-1)*perEntry+j])
		}
		long = append(long, e...)
	}
	return short, long
}

// bootSector returns the first sector, with the BIOS parameter block (§3).
func bootSector(sectors uint32, tableSectors uint16, start uint32) []byte {
	b := make([]byte, sector)
	le := binary.LittleEndian
	copy(b, "\xeb\x3c\x90MSWIN4.1")
	le.PutUint16(b[11:], sector)
	b[13] = clusterSectors
	le.PutUint16(b[14:], reserved)
	b[16] = fats
	le.PutUint16(b[17:], rootEntries)
	b[21] = 0xf8 // a fixed disk
	le.PutUint16(b[22:], tableSectors)
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], start)
	le.PutUint32(b[32:], sectors)
	b[36], b[38] = 0x80, 0x29
	le.PutUint32(b[39:], 0x5653_4d55)
	copy(b[43:], "ESP        FAT16   ")
	b[510], b[511] = 0x55, 0xaa
	return b
}
