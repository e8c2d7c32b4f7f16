package guest

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// rebind unbinds a tested disk from its driver and binds it again, twice: first with an identity
// domain, as iommu.passthrough=1 chooses it, then with its earlier domain type. Each time it
// verifies the data of the test.
func (d *Disk) rebind(pattern Pattern) error {
	r := new(Rebound)
	d.Rebound = r
	for _, turn := range []struct {
		domain   string
		verified *int64
	}{{DomainIdentity, &r.Identity}, {d.IOMMU, &r.Before}} {
		if err := d.rebindTo(turn.domain); err != nil {
			return fmt.Errorf("rebind disk %s with domain %q: %w", d.Serial, turn.domain, err)
		}
		n, err := d.verify(pattern, RebindSize)
		*turn.verified = n
		if err != nil {
			return err
		}
	}
	return nil
}

// rebindTo changes the domain type of the disk's group. Linux allows that only while no driver is
// bound.
func (d *Disk) rebindTo(domain string) error {
	dir, err := masterOf(d.Name)
	if err != nil {
		return err
	}
	driver, err := filepath.EvalSymlinks(dir + "/driver")
	if err != nil {
		return err
	}
	for _, step := range []struct{ file, text string }{
		{driver + "/unbind", filepath.Base(dir)},
		{dir + "/iommu_group/type", domain},
		{driver + "/bind", filepath.Base(dir)},
	} {
		if err := write(step.file, step.text); err != nil {
			return err
		}
	}
	names, err := waitForDisks(d.Serial)
	if err != nil {
		return err
	}
	d.Name = names[d.Serial]
	if now := groupType(d.Name); now != domain {
		return fmt.Errorf("the domain is %q", now)
	}
	return nil
}

// verify reads size bytes from the start and returns the number of correct bytes.
func (d *Disk) verify(pattern Pattern, size int64) (verified int64, err error) {
	f, err := os.OpenFile("/dev/"+d.Name, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf, err := directBuffer(chunk)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(buf)
	_, verified, err = readBack(f, buf, pattern, size)
	return verified, err
}
