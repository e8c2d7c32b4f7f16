package soft

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Config configures a Host. Only Memory is required.
type Config struct {
	// Memory is the guest memory that DMA accesses and that holds CDs and translation tables.
	// If it is a guestmem.Mapper, DMA is faster and Endpoint.Map works. Hardware update of
	// Access flag and dirty state (IDR0.HTTU) requires a guestmem.Swapper. A guestmem.Tracked is
	// both, and logs all writes for live migration.
	Memory guestmem.Memory
	// MSI receives writes of four aligned bytes that translate to an address without memory.
	// The interrupt controller identifies the device by the StreamID. The transaction is in flight
	// until MSI returns. MSI must therefore wait neither for the host nor for the vsmmu.Device
	// above it: a guest may make a device write to that Device's registers. If MSI is nil, such
	// writes fail like any other access to an address without memory.
	MSI func(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error
	// IDs are the ID registers that the host offers. The zero value means DefaultIDs. The guest may
	// read less; the device passes the guest's registers to SetGuestIDs.
	IDs smmuv3.IDRegs
	// TLBEntries is the number of cached translations, of all VMIDs together. It is rounded
	// up to a power of two, and limited to MaxTLBEntries. 0 means 8192. An entry takes 33
	// bytes, which are allocated when the first stream translates.
	TLBEntries int
	// ATCTimeout limits the time that an endpoint may take for ATS.Invalidate. 0 means one
	// second.
	ATCTimeout time.Duration
}

const (
	// MaxTLBEntries is the largest Config.TLBEntries.
	MaxTLBEntries = 1 << 20

	defaultTLBEntries = 8192
)

// check returns an error if the configuration is invalid.
func (c *Config) check() error {
	switch {
	case c.Memory == nil:
		return errors.New("Config.Memory is nil")
	case nilcheck.IsNil(c.Memory):
		return fmt.Errorf("Config.Memory is a nil %T", c.Memory)
	case c.TLBEntries < 0:
		return fmt.Errorf("TLBEntries is negative: %d", c.TLBEntries)
	case c.ATCTimeout < 0:
		return fmt.Errorf("ATCTimeout is negative: %v", c.ATCTimeout)
	}
	if m, ok := c.Memory.(guestmem.Mapper); ok && m.Sections() == nil {
		return fmt.Errorf("Config.Memory is a %T whose Sections are nil", c.Memory)
	}
	if err := checkOffer(c.IDs); err != nil {
		return err
	}
	if _, ok := c.Memory.(guestmem.Swapper); !ok && c.IDs.Has(smmuv3.HTTU) {
		return errors.New("IDR0.HTTU requires memory that is a guestmem.Swapper")
	}
	return nil
}

// withDefaults returns the configuration with defaults in place of zero values.
func (c Config) withDefaults() Config {
	if c.IDs == (smmuv3.IDRegs{}) {
		c.IDs = DefaultIDs()
		if _, ok := c.Memory.(guestmem.Swapper); !ok {
			c.IDs.Set(smmuv3.HTTU, 0)
		}
	}
	c.TLBEntries = min(cmp.Or(c.TLBEntries, defaultTLBEntries), MaxTLBEntries)
	c.ATCTimeout = cmp.Or(c.ATCTimeout, time.Second)
	return c
}
