package labtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/ownsmmu"
)

// IDs are fields of the ID registers by name. They implement flag.Value, for a flag that is given
// once for each field.
type IDs map[string]uint32

// Set adds FIELD=VALUE.
func (ids IDs) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return errors.New("not FIELD=VALUE")
	}
	f, err := ownsmmu.Field(name)
	if err != nil {
		return err
	}
	v, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return fmt.Errorf("%v: %q is not a number", f, value)
	}
	ids[f.String()] = uint32(v)
	return nil
}

func (ids IDs) String() string {
	text := make([]string, 0, len(ids))
	for _, f := range smmuv3.IDFields() {
		if v, ok := ids[f.String()]; ok {
			text = append(text, fmt.Sprintf("%v=%d", f, v))
		}
	}
	return strings.Join(text, " ")
}

// with returns the machine with more fields that differ.
func (s spec) with(ids IDs) spec {
	all := maps.Clone(s.own.ids)
	if all == nil {
		all = map[string]uint32{}
	}
	maps.Copy(all, ids)
	changed := *s.own
	changed.ids = all
	s.own = &changed
	return s
}

// runOwn runs a machine whose SMMU is this project's. Its tests run in the machine's guest.
func (l *lab) runOwn(ctx context.Context, s *spec) error {
	inner, err := initramfs(l.tests)
	if err != nil {
		return err
	}
	job, err := json.Marshal(machine.OwnJob{
		IDs: s.own.ids, Cmdline: s.own.kernel + " -- " + machine.OnUART + " " + s.cmdline(),
	})
	if err != nil {
		return err
	}
	initrd, err := initramfs(l.agent,
		kernel.File{Name: machine.ImageFile, Mode: 0o644, Data: l.image},
		kernel.File{Name: machine.InitrdFile, Mode: 0o644, Data: inner},
		kernel.File{Name: machine.JobFile, Mode: 0o644, Data: job})
	if err != nil {
		return err
	}
	results := l.newTestLog(s)
	var said string // the VMM's last line, which is its error if it fails
	status := 0
	hello := func(m machine.Message) bool { return m.Inner != nil && m.Inner.Hello != nil }
	err = l.follow(ctx, l.ownMachine(s, initrd), hello, func(m machine.Message) {
		switch {
		case m.Inner != nil:
			l.hearTests(s, results, *m.Inner)
		case m.Guest != nil:
			l.hearGuest(m.Guest)
		case m.Line != nil:
			said = *m.Line
			l.say(vmmConsole, said)
		case m.Own != nil:
			l.report.Own = append(l.report.Own, Own{Machine: s.name, Own: *m.Own})
		case m.Exit != nil:
			status = m.Exit.Status
		}
	})
	l.report.Tests = append(l.report.Tests, results.tests...)
	switch {
	case err != nil:
		return results.during(err)
	case status != 0:
		return results.during(fmt.Errorf("the VMM exited with status %d: %s", status, said))
	case results.exit == nil:
		return errors.New("the guest ended before its tests")
	case results.exit.Error != "":
		return errors.New(results.exit.Error)
	}
	return results.exitError()
}
