package lab

import (
	"bufio"
	"io"
	"strings"
)

// maxLine bounds a console line; what is longer goes on in the next.
const maxLine = 4096

// eachLine calls f for each line of a console until it ends.
func eachLine(r io.Reader, f func(string)) {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			f(strings.TrimRight(string(line), "\r\n"))
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}
