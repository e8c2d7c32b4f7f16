package pl011

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
)

// line is an interrupt that records its level.
type line struct {
	mu    sync.Mutex
	cond  sync.Cond
	level bool
}

func newLine() *line {
	l := &line{}
	l.cond.L = &l.mu
	return l
}

func (l *line) set(level bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level = level
	l.cond.Broadcast()
}

func (l *line) wait(level bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.level != level {
		l.cond.Wait()
	}
}

func (l *line) get() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.level
}

// gate is an output that blocks until it is opened.
type gate struct {
	open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.Buffer.Write(p)
}

func TestIdentificationIsThatOfAPL011(t *testing.T) {
	u := newUART(t, io.Discard, nil, func(bool) {})
	defer u.Close()
	var id []uint64
	for off := uint64(0xfe0); off <= 0xffc; off += 4 {
		id = append(id, u.Load(off, 4))
	}
	// DDI 0183 §3.3.15 to §3.3.18: part 0x011, designer 0x41,
	// revision 3; then the four PrimeCell IDs.
	assert.Equal(t, []uint64{0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1}, id)
}

func TestResetValues(t *testing.T) {
	u := newUART(t, io.Discard, nil, func(bool) {})
	defer u.Close()
	for _, tt := range []struct {
		name      string
		off, want uint64
	}{
		{"UARTFR: both FIFOs empty", 0x18, 0x90},
		{"UARTCR: RXE and TXE", 0x30, 0x300},
		{"UARTIFLS: half full", 0x34, 0x12},
		{"UARTIMSC", 0x38, 0},
		{"UARTRIS", 0x3c, 0},
	} {
		assert.Equal(t, tt.want, u.Load(tt.off, 4), tt.name)
	}
}

func TestResetDropsReceivedCharacters(t *testing.T) {
	host, guest := net.Pipe()
	irq := newLine()
	u := newUART(t, io.Discard, guest, irq.set)
	defer u.Close()
	u.Store(0x38, 4, 0x50)  // UARTIMSC: RXIM, RTIM
	u.Store(0x30, 4, 0x301) // UARTCR: enabled
	_, err := host.Write([]byte("old"))
	require.NoError(t, err)
	irq.wait(true)

	u.Reset()
	assert.False(t, irq.get())
	assert.EqualValues(t, 0x90, u.Load(0x18, 4), "UARTFR: both FIFOs empty")
	assert.EqualValues(t, 0x300, u.Load(0x30, 4), "UARTCR")
	assert.Zero(t, u.Load(0x38, 4), "UARTIMSC")
}

func TestRegistersKeepOnlyWritableBits(t *testing.T) {
	u := newUART(t, io.Discard, nil, func(bool) {})
	defer u.Close()
	for off := uint64(0); off < 0x1000; off++ {
		if off != 0 { // UARTDR
			u.Store(off, 4, 0xffff_ffff_ffff_ffff)
		}
	}
	assert.EqualValues(t, 0xffff, u.Load(0x24, 4), "UARTIBRD")
	assert.EqualValues(t, 0x3f, u.Load(0x28, 4), "UARTFBRD")
	assert.EqualValues(t, 0xff, u.Load(0x2c, 4), "UARTLCR_H")
	assert.EqualValues(t, 0x7ff, u.Load(0x38, 4), "UARTIMSC")
	assert.EqualValues(t, 0x90, u.Load(0x18, 4), "UARTFR is read-only")
	assert.Zero(t, u.Load(0x800, 4), "reserved")
	assert.Zero(t, u.Load(0xfe1, 4), "between registers")
	assert.Zero(t, u.Load(^uint64(0), 8), "far outside")
}

func TestTransmitReachesTheOutputInOrder(t *testing.T) {
	var out bytes.Buffer
	u := newUART(t, &out, nil, func(bool) {})
	want := bytes.Repeat([]byte("0123456789abcdef\n"), 1000)
	for _, c := range want {
		for u.Load(0x18, 4)&0x20 != 0 { // UARTFR.TXFF
		}
		u.Store(0, 1, uint64(c))
	}
	require.NoError(t, u.Close())
	assert.Equal(t, want, out.Bytes(), "Close loses nothing")
}

func TestTXFFIsSetWhileTheOutputBlocks(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	irq := newLine()
	u := newUART(t, out, nil, irq.set)
	sent := 0
	for u.Load(0x18, 4)&0x20 == 0 {
		u.Store(0, 1, 'x')
		sent++
	}
	assert.Equal(t, txSize, sent)
	u.Store(0, 1, 'y') // dropped, since TXFF is set
	u.Store(0x44, 4, 0x20)
	u.Store(0x38, 4, 0x20)
	assert.False(t, irq.get(), "the FIFO is full")

	close(out.open)
	irq.wait(true)
	assert.EqualValues(t, 0x20, u.Load(0x40, 4), "UARTMIS.TXMIS")
	u.Store(0x44, 4, 0x20) // UARTICR
	assert.False(t, irq.get())
	require.NoError(t, u.Close())
	assert.Equal(t, bytes.Repeat([]byte("x"), txSize), out.Bytes())
}

func TestTransmitContinuesAfterAnErrorOfTheOutput(t *testing.T) {
	r, w := io.Pipe()
	require.NoError(t, r.CloseWithError(errors.New("gone")))
	u := newUART(t, w, nil, func(bool) {})
	for range 3 * txSize {
		for u.Load(0x18, 4)&0x20 != 0 {
		}
		u.Store(0, 1, 'x')
	}
	require.NoError(t, u.Close())
}

func TestReceiveWaitsForTheGuestAndRaisesTheInterrupt(t *testing.T) {
	host, guest := net.Pipe()
	irq := newLine()
	u := newUART(t, guest, guest, irq.set)
	sent := make(chan error, 1)
	want := bytes.Repeat([]byte("hello, guest. "), 20)
	go func() {
		_, err := host.Write(want)
		sent <- err
	}()

	u.Store(0x38, 4, 0x50)  // UARTIMSC: RXIM, RTIM
	u.Store(0x30, 4, 0x301) // UARTCR: enabled
	var got []byte
	for len(got) < len(want) {
		irq.wait(true)
		for u.Load(0x18, 4)&0x10 == 0 { // UARTFR.RXFE
			got = append(got, byte(u.Load(0, 4)))
		}
	}
	require.NoError(t, <-sent)
	assert.Equal(t, want, got)
	irq.wait(false)
	assert.Zero(t, u.Load(0x3c, 4)&0x50, "UARTRIS with nothing to read")
	require.NoError(t, u.Close())
	_, err := host.Write([]byte("late"))
	assert.Error(t, err, "Close closed the input")
}

func TestReceiveIsOffUntilEnabled(t *testing.T) {
	host, guest := net.Pipe()
	u := newUART(t, guest, guest, func(bool) {})
	_, err := host.Write([]byte("x"))
	require.NoError(t, err)
	assert.EqualValues(t, 0x10, u.Load(0x18, 4)&0x10, "UARTFR.RXFE")
	require.NoError(t, u.Close(), "with a character that the guest does not read")
}

// The receive interrupt is set from half a FIFO on, and the timeout interrupt from one character on
// (DDI 0183 §2.8.2).
// The driver of the SBSA's generic UART writes DR, IMSC and ICR alone, in words of 32 bits (DEN
// 0029, appendix B).
func TestEnabledUARTWorksForADriverThatNeverWritesCR(t *testing.T) {
	irq := newLine()
	in, feed := io.Pipe()
	var out bytes.Buffer
	u, err := New(&out, in, irq.set)
	require.NoError(t, err)
	u.Enable()
	u.Store(imsc, 4, intRX|intRT)
	_, err = feed.Write([]byte("x"))
	require.NoError(t, err)
	irq.wait(true)
	assert.EqualValues(t, 'x', u.Load(dr, 4))
	assert.False(t, irq.get())
	u.Store(dr, 4, 'y')
	assert.Zero(t, u.Load(fr, 4)&(1<<3), "not busy")

	u.Reset()
	assert.Zero(t, u.Load(cr, 4)&crUARTEN, "until the next reset")
	require.NoError(t, u.Close())
	assert.Equal(t, "y", out.String())
}

func TestReceiveInterruptsFollowTheFIFO(t *testing.T) {
	host, guest := net.Pipe()
	irq := newLine()
	u := newUART(t, io.Discard, guest, irq.set)
	u.Store(0x38, 4, 0x10)  // UARTIMSC: RXIM
	u.Store(0x30, 4, 0x301) // UARTCR: enabled
	_, err := host.Write(bytes.Repeat([]byte("x"), 32))
	require.NoError(t, err)
	irq.wait(true)
	assert.EqualValues(t, 0x40, u.Load(0x18, 4)&0x50, "UARTFR: RXFF")
	assert.EqualValues(t, 0x50, u.Load(0x3c, 4)&0x50, "UARTRIS: RTRIS and RXRIS")
	for range 16 {
		u.Load(0, 4)
	}
	assert.Zero(t, u.Load(0x18, 4)&0x50, "UARTFR: neither full nor empty")
	assert.True(t, irq.get(), "half full")
	u.Load(0, 4)
	assert.False(t, irq.get())
	assert.EqualValues(t, 0x40, u.Load(0x3c, 4)&0x50, "UARTRIS: RTRIS")
	require.NoError(t, u.Close())
}

func TestTransmitInterruptIsLatched(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	irq := newLine()
	u := newUART(t, out, nil, irq.set)
	u.Store(0x38, 4, 0x20) // UARTIMSC: TXIM
	assert.False(t, irq.get(), "nothing was transmitted")
	u.Store(0, 1, 'x')
	assert.True(t, irq.get(), "there is room for more")
	u.Store(0x44, 4, 0x7df) // UARTICR: all others
	assert.True(t, irq.get())
	u.Reset()
	assert.False(t, irq.get())
	assert.Zero(t, u.Load(0x3c, 4), "UARTRIS")
	close(out.open)
	require.NoError(t, u.Close())
}

// newUART returns a UART of valid arguments.
func newUART(t *testing.T, out io.Writer, in io.ReadCloser, irq func(level bool)) *UART {
	t.Helper()
	u, err := New(out, in, irq)
	require.NoError(t, err)
	return u
}

func TestNilArgumentsAreErrors(t *testing.T) {
	irq := func(bool) {}
	for _, tt := range []struct {
		name string
		out  io.Writer
		in   io.ReadCloser
		irq  func(bool)
		want string
	}{
		{"no output", nil, nil, irq, "no output"},
		{"a nil pointer as the output", (*os.File)(nil), nil, irq, "no output"},
		{"a nil pointer as the input", io.Discard, (*os.File)(nil), irq, "the input holds a nil pointer"},
		{"no interrupt", io.Discard, nil, nil, "no function to set the interrupt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.out, tt.in, tt.irq)
			assert.EqualError(t, err, "pl011: new UART: "+tt.want)
		})
	}
}

func TestLaterCloseReturnsErrClosed(t *testing.T) {
	u := newUART(t, io.Discard, nil, func(bool) {})
	require.NoError(t, u.Close())
	assert.ErrorIs(t, u.Close(), bridge.ErrClosed)
}

// The guest transmits, and the output blocks.
func TestTransmittedCharactersAreBoundedByTheFIFO(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	u := newUART(t, out, nil, func(bool) {})
	for range 1 << 16 {
		u.Store(dr, 4, 'x')
	}
	u.mu.Lock()
	assert.Equal(t, 4096, u.tx.len())
	u.mu.Unlock()
	close(out.open)
	require.NoError(t, u.Close())
}

// The input sends, and the guest reads nothing.
func TestReceivedCharactersAreBoundedByTheFIFO(t *testing.T) {
	host, guest := net.Pipe()
	u := newUART(t, io.Discard, guest, func(bool) {})
	u.Store(cr, 4, crUARTEN|crRXE)
	require.NoError(t, host.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	n, err := host.Write(make([]byte, 1<<16))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.LessOrEqual(t, n, 2*32, "the FIFO and one read of the input")
	u.mu.Lock()
	assert.Equal(t, 32, u.rx.len())
	u.mu.Unlock()
	require.NoError(t, u.Close())
}
