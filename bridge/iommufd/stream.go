//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stream is an attached device. Bind and Close take the host's lock, and the other methods hold it.
type stream struct {
	host    *Host
	dev     *Device
	sid     smmuv3.StreamID
	vdevice id

	// One of these is attached: a table that all streams share, or the stream's own with the vSTE that it was made from.
	// With neither, the device is detached and its DMA blocked.
	shared id
	own    id
	ste    vSTE
}

// Bind is bridge.Stream's. Stages that the kernel or the hardware does not take are rejected; the error then names the fields
// or holds the errno. A device that cannot be made to abort by its table is detached, which blocks its DMA as well.
func (s *stream) Bind(g bridge.GuestStage) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	err := s.bind(g)
	s.host.settle()
	if err != nil {
		return fmt.Errorf("iommufd: bind stream %v to %v: %w", s.sid, g, err)
	}
	return nil
}

func (s *stream) bind(g bridge.GuestStage) error {
	if s.closed() {
		return bridge.ErrClosed
	}
	n := s.host.nest
	switch g.Disposition {
	case bridge.Abort:
		err := s.share(n.abort)
		if err != nil && s.unplug() == nil {
			return nil
		}
		return err
	case bridge.Bypass:
		return s.share(n.bypass)
	case bridge.Translate:
		ste, err := steOf(g, &n.ids, n.stalls)
		if err != nil {
			return err
		}
		return s.translate(ste)
	}
	return fmt.Errorf("%w: disposition %d", bridge.ErrRejected, g.Disposition)
}

// share attaches a table that is not the stream's own.
func (s *stream) share(table id) error {
	if s.shared == table {
		return nil
	}
	if err := s.host.k.attach(s.dev.fd, table); err != nil {
		return err
	}
	s.stands(table, 0, vSTE{})
	return nil
}

// translate attaches a table made from the vSTE.
func (s *stream) translate(ste vSTE) error {
	k := &s.host.k
	if s.own != 0 {
		// The kernel does not touch the hardware, and so leaves cached CDs where they are, if the physical STE comes out the
		// same: two stages may differ only in what it does not carry out, such as EATS. CDs that the old stage caches from
		// now on are those that the new one would.
		if err := s.host.send(smmuv3.NewCfgiCDAll(s.sid)); err != nil {
			return err
		}
		if s.ste == ste {
			return nil
		}
	} else if err := s.host.catchUp(); err != nil {
		return err
	}
	if err := s.host.sweep(); err != nil {
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
	s.stands(0, table, ste)
	return nil
}

// stands notes what is attached, and gives back the table that it has replaced.
func (s *stream) stands(shared, own id, ste vSTE) {
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

// unplug leaves the device without a table.
func (s *stream) unplug() error {
	err := s.host.k.detach(s.dev.fd)
	// A device that is gone has none.
	if err != nil && !errors.Is(err, bridge.ErrGone) {
		return err
	}
	s.stands(0, 0, vSTE{})
	return nil
}

// Close is bridge.Stream's. The device stays bound, its DMA blocked, and may be attached again. After an error the StreamID
// stays in use, and another Close tries again; a device that cannot be detached aborts, if it can be made to.
func (s *stream) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if err := s.close(); err != nil {
		return fmt.Errorf("iommufd: close stream %v: %w", s.sid, err)
	}
	return nil
}

func (s *stream) close() error {
	if s.closed() {
		return bridge.ErrClosed
	}
	if err := s.unplug(); err != nil {
		return errors.Join(err, s.share(s.host.nest.abort))
	}
	if err := s.host.k.destroy(&s.vdevice); err != nil {
		return err
	}
	s.dev.stream = nil
	delete(s.host.streams, s.sid)
	return nil
}

// closed reports whether the stream is, by itself or with its host: from then on the device does no DMA for it.
func (s *stream) closed() bool { return s.dev.stream != s || s.host.closed }

// drop gives back what a Close has not, once the device is unbound and uses none of it.
func (s *stream) drop() error {
	s.stands(0, 0, vSTE{})
	return s.host.k.destroy(&s.vdevice)
}
