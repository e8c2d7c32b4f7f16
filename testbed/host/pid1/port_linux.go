package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// portTimeout is the time in which the kernel must find the port.
const portTimeout = 2 * time.Minute

// OpenPort opens a virtio-serial port by name.
func OpenPort(name string) (*os.File, error) {
	var device string
	if !WaitFor(portTimeout, func() bool {
		files, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, file := range files {
			if text, _ := os.ReadFile(file); strings.TrimSpace(string(text)) == name {
				device = "/dev/" + filepath.Base(filepath.Dir(file))
				return true
			}
		}
		return false
	}) {
		return nil, fmt.Errorf(
			"no virtio-serial port %s within %v: the kernel has no driver virtio_mmio or virtio_console",
			name,
			portTimeout,
		)
	}
	return os.OpenFile(device, os.O_RDWR, 0)
}
