package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
)

// control is the channel to the VMM: lines of JSON.
type control struct {
	*os.File
	lines *bufio.Scanner
}

func openControl() (*control, error) {
	f, err := pid1.OpenUART(ControlDevice)
	if err != nil {
		return nil, fmt.Errorf("open the channel to the VMM: %w", err)
	}
	return &control{f, bufio.NewScanner(f)}, nil
}

func (c *control) send(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.sendLine(line)
}

func (c *control) sendLine(line []byte) error {
	if _, err := c.Write(append(line, '\n')); err != nil {
		return err
	}
	// tcdrain(3): a power off does not wait for the UART. Go's preemption signals interrupt the
	// ioctl.
	for {
		err := unix.IoctlSetInt(int(c.Fd()), unix.TCSBRK, 1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive waits for a line of the VMM.
func (c *control) receive() (string, error) {
	if !c.lines.Scan() {
		return "", errors.Join(errors.New("the VMM closed the channel"), c.lines.Err())
	}
	return c.lines.Text(), nil
}

// waitDone waits for the VMM's line Done.
func (c *control) waitDone() error {
	word, err := c.receive()
	if err == nil && word != Done {
		err = fmt.Errorf("the VMM answered %q instead of %q", word, Done)
	}
	return err
}
