//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"os"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
)

// addESP adds the disk from which the firmware boots, a PCI function behind the SMMU. The caller
// closes its file after the machine.
func (j Job) addESP(v *vm, image []byte, mover *mover, t *tape, notes *recorder) (f *os.File, err error) {
	functions := 0
	for i := range endpoints {
		if j.onPCI(i) {
			functions++
		}
	}
	sid := j.Wiring.StreamBase + vmm.PCIStreamID(functions)
	ep := &endpoint{id: sid, serial: guest.ESP, dma: soft.NewEndpoint(), mover: mover, tap: t.dma}
	notes.endpoints[sid] = ep
	if f, err = newBacking(); err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(int64(len(image))), writeAt(f, image)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := v.addDisk(f, guest.ESP, true, vmm.Master{StreamID: sid}, ep.dma, ep); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, data []byte) error {
	_, err := f.WriteAt(data, 0)
	return err
}
