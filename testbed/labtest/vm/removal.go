//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// removal releases a device when the host's kernel wants to remove it. The kernel waits for the
// release.
type removal struct {
	wanted   *os.File // an eventfd that the kernel signals
	watching sync.WaitGroup
	err      error
}

// watchRemoval calls enable with an eventfd, and calls release when the kernel signals it: at most
// once, and before Close returns.
func watchRemoval(enable func(eventfd int32) error, release func() error) (*removal, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	r := &removal{wanted: os.NewFile(uintptr(fd), "removal")}
	if err := enable(int32(fd)); err != nil {
		return nil, errors.Join(err, r.wanted.Close())
	}
	r.watching.Go(func() {
		var count [8]byte
		if _, err := r.wanted.Read(count[:]); err == nil { // Close makes the read fail
			r.err = release()
		}
	})
	return r, nil
}

// Close ends the watch and returns the error of the release, if there was one.
func (r *removal) Close() error {
	err := r.wanted.Close()
	r.watching.Wait()
	return errors.Join(err, r.err)
}
