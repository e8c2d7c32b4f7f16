package labtest

import (
	"context"
	"fmt"
	"io"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// runGuest runs the VMM on the host's kernel, with a Linux guest that uses an NVMe disk passed
// through to it.
func (l *lab) runGuest(ctx context.Context, s *spec) error {
	inner, err := initramfs(l.agent)
	if err != nil {
		return err
	}
	initrd, err := initramfs(l.agent,
		kernel.File{Name: machine.ImageFile, Mode: 0o644, Data: l.image},
		kernel.File{Name: machine.InitrdFile, Mode: 0o644, Data: inner})
	if err != nil {
		return err
	}
	nvme, err := qemu.NewTempFile()
	if err != nil {
		return err
	}
	defer nvme.Close()
	if err := nvme.Truncate(machine.DiskSize); err != nil {
		return err
	}
	var said string // the VMM's last line, which is its error if it fails
	status := 0
	err = l.follow(ctx, l.guestMachine(s, initrd, nvme), started, func(m machine.Message) {
		switch {
		case m.Line != nil:
			said = *m.Line
		case m.Exit != nil:
			status = m.Exit.Status
		}
		l.hearVMM(m)
	})
	switch {
	case err != nil:
		return err
	case status != 0:
		return fmt.Errorf("the VMM exited with status %d: %s", status, said)
	}
	if l.report.Guest.NVMe, err = checkNVMe(nvme); err != nil {
		l.report.Guest.NVMeError = err.Error()
	}
	return nil
}

// hearVMM handles a message of the VMM.
func (l *lab) hearVMM(m machine.Message) {
	switch {
	case m.Line != nil:
		l.say(vmmConsole, *m.Line)
	case m.Figures != nil:
		l.report.Figures.add(m.Figures)
	case m.Guest != nil:
		l.hearGuest(m.Guest)
	}
}

// hearGuest handles a message of the VMM about its guest.
func (l *lab) hearGuest(m *machine.Guest) {
	g := &l.report.Guest
	switch {
	case m.Line != nil && g.crashing: // the panic is planned
		l.progress.Line(guestConsole, *m.Line)
	case m.Line != nil:
		l.line(guestConsole, *m.Line)
	case m.Stage != "":
		l.progress.Stage(m.Stage)
	case m.Boot != nil:
		g.Boots = append(g.Boots, *m.Boot)
		g.crashing = false
	case m.Read != nil:
		g.Reads = append(g.Reads, Read{Name: g.begun, Read: *m.Read})
	case m.End != nil:
		g.End = *m.End
		l.report.reached = guestEnded
	case m.Removed != nil:
		g.Removed = m.Removed
	case m.Said != nil:
		g.hear(m.Said)
	}
}

// checkNVMe returns the number of bytes in the disk's image, from the start, that the guest wrote.
// Its error says where the bytes differ.
func checkNVMe(disk io.ReaderAt) (int64, error) {
	data := make([]byte, guest.TestSize)
	if _, err := io.ReadFull(io.NewSectionReader(disk, 0, guest.TestSize), data); err != nil {
		return 0, err
	}
	return guest.LabCheck(guest.LabNVMe, data)
}
