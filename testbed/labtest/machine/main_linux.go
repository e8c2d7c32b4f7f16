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

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
)

// Machine is the lab machine that a program runs on. Its methods are safe for concurrent use.
type Machine struct {
	mu      sync.Mutex
	port    *os.File // the channel to the runner
	inGuest bool
}

// InGuest reports whether the machine is the guest of package ownsmmu, whose SMMU is this project's.
func (m *Machine) InGuest() bool { return m.inGuest }

// Main calls run and exits with its status. If the program is a machine's init, Main first sets the
// machine up, and finally powers it off. Otherwise run gets nil.
func Main(run func(*Machine) int) {
	if os.Getpid() != 1 {
		os.Exit(run(nil))
	}
	if err := initMain(run); err != nil {
		fmt.Fprintln(os.Stderr, progress.InitFailed+err.Error())
	}
	fmt.Fprintln(os.Stderr, "power off:", pid1.PowerOff())
	os.Exit(1)
}

func initMain(run func(*Machine) int) error {
	if err := pid1.Mount(); err != nil {
		return err
	}
	inGuest := argument(OnUART)
	port, err := openChannel(inGuest)
	if err != nil {
		return err
	}
	m := &Machine{port: port, inGuest: inGuest}
	if inGuest {
		if err := quiet(); err != nil {
			return err
		}
	}
	status, err := m.program(run)
	if inGuest {
		err = errors.Join(err, m.sendLog())
	}
	exit := Exit{Status: status}
	if err != nil {
		exit = Exit{Status: max(status, 1), Error: err.Error()}
	}
	if err := m.Send(Message{Exit: &exit}); err != nil {
		return err
	}
	_, err = bufio.NewReader(port).ReadString('\n') // qemu.Heard: the runner sends nothing else
	return err
}

// openChannel opens the channel to the runner.
func openChannel(inGuest bool) (*os.File, error) {
	if !inGuest {
		return pid1.OpenPort(qemu.PortName)
	}
	return pid1.OpenUART(guest.ControlDevice)
}

// argument removes the program's first argument if it is the given one, and reports whether it was.
func argument(name string) bool {
	if len(os.Args) < 2 || os.Args[1] != name {
		return false
	}
	os.Args = append(os.Args[:1], os.Args[2:]...)
	return true
}

// program sends the first messages, binds the edu devices to vfio-pci, and runs the program.
func (m *Machine) program(run func(*Machine) int) (status int, err error) {
	if err := m.hello(); err != nil {
		return 0, err
	}
	if argument(DumpIORT) {
		if err := m.sendIORT(); err != nil {
			return 0, err
		}
	}
	for _, dir := range PCIDevices(eduID) {
		if err := GiveToVFIO(dir); err != nil {
			return 0, err
		}
	}
	return m.captured(run)
}

// Send sends a message to the runner.
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

// maxLine bounds a line of the program's output, in bytes.
const maxLine = 4 << 10

// captured runs the program and sends its standard output to the runner. The program's standard
// error is still the console, which shows it even if the program crashes.
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
		out := console.Writer{
			Max:  maxLine,
			Emit: func(line string) { failed = errors.Join(failed, m.Send(Message{Line: &line})) },
		}
		_, err := io.Copy(&out, r)
		out.Flush()
		copied <- errors.Join(err, failed)
	}()
	status = run(m)
	// This closes the last descriptor of the pipe's write end.
	err = unix.Dup3(kept, stdout, 0)
	return status, errors.Join(err, <-copied)
}
