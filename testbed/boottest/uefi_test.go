package boottest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// efiOptions returns options of a boot by a file with the signature of firmware.
func efiOptions(t *testing.T, mode string) Options {
	t.Helper()
	o, _ := options(t, mode)
	o.Firmware, o.EFI = "uefi", t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(o.EFI, "QEMU_EFI.fd"), []byte("...._FVH"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(o.EFI, "systemd-bootaa64.efi"), []byte("MZ"), 0o600))
	edited("Image", func(b []byte) []byte { copy(b, "MZ"); return append(b, []byte("virtio_pci")...) })(&o)
	return o
}

func TestFilesOfTheFirmwareAreCheckedBeforeTheBoot(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(o *Options)
		want string
	}{
		{"no directory", func(o *Options) { o.EFI = "/nonexistent" }, "the firmware: open /nonexistent/QEMU_EFI.fd"},
		{"not firmware", func(o *Options) { write(o, "QEMU_EFI.fd", "#!/bin/sh") }, "not UEFI firmware"},
		{"firmware larger than the flash", func(o *Options) {
			_ = os.Truncate(filepath.Join(o.EFI, "QEMU_EFI.fd"), 64<<20+1)
		}, "67108865 bytes are more than the flash's 67108864"},
		{"no boot loader", func(o *Options) { _ = os.Remove(filepath.Join(o.EFI, "systemd-bootaa64.efi")) }, "the boot loader: open"},
		{"not a boot loader", func(o *Options) { write(o, "systemd-bootaa64.efi", "\x7fELF") }, "is not an EFI program"},
		{"a kernel without an EFI stub", edited("Image", func(b []byte) []byte { b[0] = 0; return b }), "has no EFI stub"},
		{"a transcript", func(o *Options) { o.Record = filepath.Join(o.EFI, "t") }, "-record: not with -firmware uefi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := efiOptions(t, "reports")
			tt.edit(&o)
			_, err := Boot(context.Background(), o)
			var input *InputError
			require.ErrorAs(t, err, &input)
			assert.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func write(o *Options, name, text string) {
	_ = os.WriteFile(filepath.Join(o.EFI, name), []byte(text), 0o600)
}

func TestFirmwareBootsFromTheDisk(t *testing.T) {
	o := efiOptions(t, "reports")
	r, err := Boot(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, r.Error)
}
