//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// removal gives a device back to the host when somebody there wants it, who waits for that.
type removal struct {
	wanted   *os.File // an eventfd
	watching sync.WaitGroup
	err      error
}

// watchRemoval has enable connect an eventfd, and giveBack called when that is signalled, at most once and before Close returns.
func watchRemoval(enable func(eventfd int32) error, giveBack func() error) (*removal, error) {
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
		if _, err := r.wanted.Read(count[:]); err == nil { // and not closed
			r.err = giveBack()
		}
	})
	return r, nil
}

// Close ends the watch, and says what went wrong when the device was given back.
func (r *removal) Close() error {
	err := r.wanted.Close()
	r.watching.Wait()
	return errors.Join(err, r.err)
}
