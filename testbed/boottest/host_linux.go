package boottest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
)

// Init is the emulated host's init. It runs the guest and powers the host off.
func Init() error {
	err := hostInit()
	if err != nil {
		fmt.Fprintln(os.Stderr, progress.InitFailed+err.Error())
	}
	return errors.Join(err, pid1.PowerOff())
}

func hostInit() error {
	if err := errors.Join(pid1.Mount(), pid1.LoadModules()); err != nil {
		return err
	}
	port, err := pid1.OpenPort(qemu.PortName)
	if err != nil {
		return fmt.Errorf("the channel to the runner: %w (give its modules with -host-modules DIR)", err)
	}
	defer port.Close()
	s := &sender{w: port}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for words := bufio.NewScanner(port); words.Scan() && words.Text() != qemu.Heard; {
			if words.Text() == stopWord {
				cancel(errors.New("the runner stopped the guest"))
			}
		}
	}()
	if err = runJob(ctx, s); err != nil {
		err = errors.Join(err, s.send(message{Error: err.Error()}))
	}
	<-heard
	return err
}

func runJob(ctx context.Context, s *sender) error {
	s.Stage("the host prepares the guest")
	var job vm.Job
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
	return s.send(message{Report: vm.Run(ctx, job, image, initrd, s)})
}
