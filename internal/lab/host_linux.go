package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/boot"
	"github.com/go-vsmmu/vsmmuv3/internal/pid1"
)

// portTimeout is how long the host's kernel may take to show the channel's port.
const portTimeout = 30 * time.Second

// Init is the emulated host's whole user space: it runs the guest and ends with power off.
func Init() error {
	err := hostInit()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vsmmu: host:", err)
	}
	return errors.Join(err, pid1.PowerOff())
}

func hostInit() error {
	if err := errors.Join(pid1.Mount(), pid1.LoadModules()); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	defer port.Close()
	s := &sender{w: port}
	if err := runJob(s, port); err != nil {
		return errors.Join(err, s.send(message{Error: err.Error()}))
	}
	return nil
}

func runJob(s *sender, port io.Reader) error {
	s.Stage("the host prepares the guest")
	var job boot.Job
	description, err := os.ReadFile("/" + jobFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(description, &job); err != nil {
		return fmt.Errorf("%s: %w", jobFile, err)
	}
	image, err := os.ReadFile("/" + imageFile)
	if err != nil {
		return err
	}
	initrd, err := os.ReadFile("/" + initrdFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		word, err := bufio.NewReader(port).ReadString('\n')
		if err == nil && strings.TrimSpace(word) == stopWord {
			cancel(errors.New("the runner stopped the boot"))
		}
	}()
	return s.send(message{Report: boot.Run(ctx, job, image, initrd, s)})
}

// openPort finds the virtio-serial port by its name.
func openPort() (*os.File, error) {
	var device string
	if !pid1.WaitFor(portTimeout, func() bool {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, file := range names {
			if name, _ := os.ReadFile(file); strings.TrimSpace(string(name)) == portName {
				device = "/dev/" + filepath.Base(filepath.Dir(file))
				return true
			}
		}
		return false
	}) {
		return nil, errors.New("the channel to the runner did not appear: the host's kernel has no driver virtio_mmio or virtio_console, built in or among the modules given (-host-modules)")
	}
	return os.OpenFile(device, os.O_RDWR, 0)
}
