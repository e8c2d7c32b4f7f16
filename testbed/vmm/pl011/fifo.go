package pl011

// fifo is a ring of characters. in and out only grow; their difference is the number of characters.
type fifo struct {
	data    []byte
	in, out uint
}

func newFIFO(size int) fifo { return fifo{data: make([]byte, size)} }

func (f *fifo) len() int   { return int(f.in - f.out) }
func (f *fifo) full() bool { return f.len() == len(f.data) }

// put adds as much of p as there is room for, and returns the number of characters.
func (f *fifo) put(p []byte) int {
	n := min(len(p), len(f.data)-f.len())
	for _, c := range p[:n] {
		f.data[f.in%uint(len(f.data))] = c
		f.in++
	}
	return n
}

// take removes the oldest character. It returns false if there is none.
func (f *fifo) take() (byte, bool) {
	if f.len() == 0 {
		return 0, false
	}
	c := f.data[f.out%uint(len(f.data))]
	f.out++
	return c, true
}

// peek copies the oldest characters to p, and returns their number.
func (f *fifo) peek(p []byte) int {
	n := min(len(p), f.len())
	for i := range n {
		p[i] = f.data[(f.out+uint(i))%uint(len(f.data))]
	}
	return n
}

// drop removes the n oldest characters.
func (f *fifo) drop(n int) { f.out += uint(n) }
