//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stream is an attached device. Bind and Close take the host's lock. The caller of the other
// methods holds it.
type stream struct {
	host *Host
	dev  *Device
	sid  smmuv3.StreamID

	// The device is attached to this table. All streams share the table, or it belongs to the
	// stream and was made from ste. If both are zero, the device is detached and its DMA is
	// blocked.
	shared id
	own    id
	ste    vSTE
}

// Bind implements bridge.Stream. It rejects a stage that the kernel or the hardware does not
// accept; the error names the field or holds the errno. If the kernel cannot attach the table that
// aborts, Bind detaches the device, which also blocks its DMA.
func (s *stream) Bind(g bridge.GuestStage) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	err := s.bind(g)
	s.host.deliverFaults()
	return err
}

func (s *stream) bind(g bridge.GuestStage) error {
	if s.closed() {
		return errStreamClosed
	}
	n := s.host.nest
	switch g.Disposition {
	case bridge.Abort:
		err := s.attachShared(n.abort)
		if err != nil && s.detach() == nil {
			return nil
		}
		return err
	case bridge.Bypass:
		return s.attachShared(n.bypass)
	case bridge.Translate:
		ste, err := steOf(g, &n.guest, n.stalls)
		if err != nil {
			return err
		}
		return s.translate(ste)
	}
	return fmt.Errorf("%w: disposition %d", bridge.ErrRejected, uint8(g.Disposition))
}

// attachShared attaches the device to a table that all streams share.
func (s *stream) attachShared(table id) error {
	if s.shared == table {
		return nil
	}
	if err := s.host.k.attach(s.dev.fd, table); err != nil {
		return err
	}
	s.replaceTable(table, 0, vSTE{})
	return nil
}

// translate attaches the device to a table made from the vSTE.
func (s *stream) translate(ste vSTE) error {
	k := &s.host.k
	if s.own != 0 {
		// If the physical STE does not change, the kernel does not invalidate anything, and cached
		// CDs stay. Two stages may differ only in EATS, for example, which the kernel may ignore.
		// The old and the new stage have the same CD table then, so CDs cached after this command
		// are current.
		if err := s.host.send(smmuv3.NewCfgiCDAll(s.sid)); err != nil {
			return err
		}
		if s.ste == ste {
			return nil
		}
	} else if err := s.host.catchUp(); err != nil {
		return err
	}
	if err := s.host.destroyLeftovers(); err != nil {
		return err
	}
	table, err := k.allocNested(s.dev.id, s.host.nest.viommu, ste)
	if err != nil {
		return err
	}
	if err := k.attach(s.dev.fd, table); err != nil {
		s.host.discard(table)
		return err
	}
	s.replaceTable(0, table, ste)
	return nil
}

// replaceTable records the table that is attached and destroys the stream's previous own table.
func (s *stream) replaceTable(shared, own id, ste vSTE) {
	replaced := s.own
	s.shared, s.own, s.ste = shared, own, ste
	if own != 0 {
		s.host.translating++
	}
	if replaced != 0 {
		s.host.translating--
	}
	s.host.discard(replaced)
}

// usesATS reports whether the kernel enabled ATS for the stream: its table translates and has EATS,
// and the device supports ATS.
func (s *stream) usesATS() bool {
	return s.own != 0 && s.ste.eats() == smmuv3.EATSFull && !s.dev.noATS
}

// detach detaches the device from its table, which blocks its DMA.
func (s *stream) detach() error {
	err := s.host.k.detach(s.dev.fd)
	if err != nil && !errors.Is(err, bridge.ErrGone) { // a device that is gone has no table
		return err
	}
	s.replaceTable(0, 0, vSTE{})
	return nil
}

// Close implements bridge.Stream. The device stays bound with its DMA blocked, and can be attached
// again. After an error the StreamID is still in use and Close can be called again; a device that
// the kernel cannot detach aborts if possible.
func (s *stream) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	return s.close()
}

func (s *stream) close() error {
	if s.closed() {
		return errStreamClosed
	}
	if err := s.detach(); err != nil {
		if aborts := s.attachShared(s.host.nest.abort); aborts != nil {
			return fmt.Errorf("%w; binding an abort failed too: %w", err, aborts)
		}
		return err
	}
	if err := s.host.k.destroy(&s.dev.vdevice); err != nil {
		return err
	}
	s.dev.stream = nil
	delete(s.host.streams, s.sid)
	return nil
}

// closed reports whether the stream or its host is closed. The device makes no DMA for it then.
func (s *stream) closed() bool { return s.dev.stream != s || s.host.closed }
