package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// control is the channel to the VMM: lines of JSON.
type control struct {
	*os.File
	lines *bufio.Scanner
}

func openControl() (*control, error) {
	fd, err := unix.Open(ControlDevice, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf(
			"open the channel to the VMM: %w",
			&os.PathError{Op: "open", Path: ControlDevice, Err: err},
		)
	}
	// Raw mode, as cfmakeraw(3): otherwise the terminal echoes the VMM's words.
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ControlDevice, err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", ControlDevice, err)
	}
	f := os.NewFile(uintptr(fd), ControlDevice)
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
