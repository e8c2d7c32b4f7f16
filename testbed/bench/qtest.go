package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// qtest drives the devices of a QEMU machine by QEMU's test protocol. A command is one line, and
// its answer is one line (qemu/docs/devel/qtest.rst, and the comment at the start of
// softmmu/qtest.c).
//
// After an error, which err keeps, the methods do nothing.
type qtest struct {
	w   io.Writer
	r   *bufio.Reader
	err error
}

func newQtest(w io.Writer, r io.Reader) *qtest { return &qtest{w: w, r: bufio.NewReader(r)} }

// do sends a command and returns the part of its answer after OK.
func (q *qtest) do(format string, args ...any) string {
	if q.err != nil {
		return ""
	}
	command := fmt.Sprintf(format, args...)
	if _, q.err = io.WriteString(q.w, command+"\n"); q.err != nil {
		return ""
	}
	answer, err := q.r.ReadString('\n')
	if err != nil {
		q.err = fmt.Errorf("QEMU gave no answer to %.40q: %w", command, err)
		return ""
	}
	value, ok := strings.CutPrefix(strings.TrimSpace(answer), "OK")
	if !ok {
		q.err = fmt.Errorf("QEMU answered %.40q to %.40q", answer, command)
	}
	return strings.TrimSpace(value)
}

func (q *qtest) writel(addr uint64, v uint32) { q.do("writel %#x %#x", addr, v) }
func (q *qtest) writeq(addr uint64, v uint64) { q.do("writeq %#x %#x", addr, v) }

func (q *qtest) readl(addr uint64) uint32 { return uint32(q.number(q.do("readl %#x", addr))) }
func (q *qtest) readq(addr uint64) uint64 { return q.number(q.do("readq %#x", addr)) }

func (q *qtest) number(s string) uint64 {
	if q.err != nil {
		return 0
	}
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		q.err = fmt.Errorf("QEMU's answer: %w", err)
	}
	return v
}

// write writes data to the machine's memory. It keeps lines short, since QEMU scans an incomplete
// line again whenever more arrives.
func (q *qtest) write(addr uint64, data []byte) {
	const chunk = 48 << 10
	for len(data) > 0 {
		n := min(len(data), chunk)
		q.do("b64write %#x %#x %s", addr, n, base64.StdEncoding.EncodeToString(data[:n]))
		addr, data = addr+uint64(n), data[n:]
	}
}
