//go:build linux && (amd64 || arm64)

package kvm

import "unsafe"

// attribute is an attribute of a device of the VM's interrupt controller.
type attribute struct {
	name        string // for errors
	group, attr uint32
	value       unsafe.Pointer
}

// addDevice creates a device in KVM and sets its attributes in order. The VM owns the device. Its
// file descriptor is for configuration only.
func (vm *VM) addDevice(name string, typ uint32, attributes []attribute) error {
	device := newDevice{typ: typ}
	if _, err := vm.callPtr("KVM_CREATE_DEVICE("+name+")", createDevice, unsafe.Pointer(&device)); err != nil {
		return err
	}
	fd := &handle{fd: int(device.fd), sys: vm.sys}
	defer fd.close()
	for _, a := range attributes {
		arg := deviceAttr{group: a.group, attr: uint64(a.attr), addr: a.value}
		if _, err := fd.callPtr(
			"KVM_SET_DEVICE_ATTR("+name+" "+a.name+")",
			setDeviceAttr,
			unsafe.Pointer(&arg),
		); err != nil {
			return err
		}
	}
	return nil
}
