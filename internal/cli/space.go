package cli

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CheckSpace returns an error if the file system of dir has less than need bytes free for this
// user. It returns nil if the file system does not report its free space.
func CheckSpace(dir string, need uint64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Blocks == 0 {
		return nil
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need {
		return fmt.Errorf("%s has %.1f MiB free, %.1f MiB needed", dir, mib(free), mib(need))
	}
	return nil
}

func mib(bytes uint64) float64 { return float64(bytes) / (1 << 20) }
