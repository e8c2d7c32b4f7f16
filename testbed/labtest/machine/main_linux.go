package machine

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
)

// Machine is the machine as its program sees it. Its methods may be called from any goroutine.
type Machine struct {
	mu   sync.Mutex
	port *os.File // leads to the runner
}

// Main is a test program's main function: run and what comes of it, with nil, unless the program is a machine's init. Then it
// gets the machine ready before, and has it powered off after.
func Main(run func(*Machine) int) {
	if os.Getpid() != 1 {
		os.Exit(run(nil))
	}
	if err := initMain(run); err != nil {
		fmt.Fprintln(os.Stderr, "iommulab:", err)
	}
	fmt.Fprintln(os.Stderr, "iommulab:", pid1.PowerOff())
	os.Exit(1)
}

func initMain(run func(*Machine) int) error {
	if err := pid1.Mount(); err != nil {
		return err
	}
	port, err := pid1.OpenPort(qemu.PortName)
	if err != nil {
		return err
	}
	m := &Machine{port: port}
	status, err := m.program(run)
	exit := Exit{Status: status}
	if err != nil {
		exit = Exit{Status: max(status, 1), Error: err.Error()}
	}
	if err := m.Send(Message{Exit: &exit}); err != nil {
		return err
	}
	_, err = bufio.NewReader(port).ReadString('\n') // qemu.Heard: nothing else is said to it
	return err
}

func (m *Machine) program(run func(*Machine) int) (status int, err error) {
	if err := m.hello(); err != nil {
		return 0, err
	}
	if len(os.Args) > 1 && os.Args[1] == DumpIORT {
		if err := m.sendIORT(); err != nil {
			return 0, err
		}
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	for _, dir := range PCIDevices(eduID) {
		if err := GiveToVFIO(dir); err != nil {
			return 0, err
		}
	}
	return m.captured(run)
}

// Send says something to the runner.
func (m *Machine) Send(message Message) error {
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err = m.port.Write(append(line, '\n'))
	return err
}

func (m *Machine) hello() error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	return m.Send(Message{Hello: &Hello{Release: unix.ByteSliceToString(uts.Release[:])}})
}

func (m *Machine) sendIORT() error {
	table, err := os.ReadFile("/sys/firmware/acpi/tables/IORT")
	if err != nil {
		return err
	}
	return m.Send(Message{IORT: table})
}

// maxLine bounds a line of the program's output.
const maxLine = 4 << 10

// captured runs the program with its standard output going to the runner. Its standard error stays the kept, where it gets
// to even when the program crashes.
func (m *Machine) captured(run func(*Machine) int) (status int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	const stdout = 1
	kept, err := unix.Dup(stdout)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(unix.Dup3(int(w.Fd()), stdout, 0), w.Close()); err != nil {
		return 0, err
	}
	copied := make(chan error, 1)
	go func() {
		var failed error
		out := console.Writer{Max: maxLine, Emit: func(line string) { failed = errors.Join(failed, m.Send(Message{Line: &line})) }}
		_, err := io.Copy(&out, r)
		out.Flush()
		copied <- errors.Join(err, failed)
	}()
	status = run(m)
	// The pipe ends with the last descriptor of its end for writing.
	err = unix.Dup3(kept, stdout, 0)
	return status, errors.Join(err, <-copied)
}
