package iommulab

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/go-vsmmu/vsmmuv3/internal/iommulab/machine"
	"github.com/go-vsmmu/vsmmuv3/internal/kernel"
)

// ErrFailed is matched if the program ran and said that something is wrong.
var ErrFailed = errors.New("the program failed")

// Run boots, runs the program to its end and says whether it succeeded. No process and no file is left.
func Run(ctx context.Context, o Options) error {
	if err := checkQEMU(ctx, o.QEMU); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "iommulab-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	image, err := readImage(o.Kernel)
	if err != nil {
		return err
	}
	program, err := os.ReadFile(o.Program)
	if err != nil {
		return err
	}
	initrd, err := initramfs(program)
	if err != nil {
		return err
	}
	l := &lab{o: o, image: filepath.Join(dir, "image"), initrd: filepath.Join(dir, "initrd")}
	if err := os.WriteFile(l.image, image, 0o600); err != nil {
		return err
	}

	dump, err := l.boot(ctx, initrd, machine.DumpIORT)
	if err != nil {
		return fmt.Errorf("reading the IORT: %w", err)
	}
	table, err := base64.StdEncoding.DecodeString(dump.iort)
	if err != nil {
		return fmt.Errorf("reading the IORT: %w", err)
	}
	override, err := acpiOverride(table)
	if err != nil {
		return err
	}
	out, err := l.boot(ctx, append(override, initrd...), o.Args...)
	if err != nil {
		return err
	}
	if out.status != 0 {
		return fmt.Errorf("%w: exit status %d", ErrFailed, out.status)
	}
	return nil
}

// checkQEMU says if QEMU is missing or too old, which it would itself in words that nobody understands.
func checkQEMU(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	var major, minor int
	if _, err := fmt.Sscanf(line, "QEMU emulator version %d.%d", &major, &minor); err != nil {
		return fmt.Errorf("%s is not QEMU: it says %q", path, line)
	}
	if major < 9 || major == 9 && minor < 1 {
		return fmt.Errorf("%s: QEMU %d.%d has no nested SMMUv3: 9.1 or later is needed (bookworm-backports has one)", path, major, minor)
	}
	return nil
}

func readImage(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(z)
}

func initramfs(program []byte) ([]byte, error) {
	var b bytes.Buffer
	err := kernel.WriteInitramfs(&b, []kernel.File{{Name: "init", Mode: 0o755, Data: program}})
	return b.Bytes(), err
}

// acpiOverride is an archive that Linux takes the patched table from. It has to come first, and not be compressed.
func acpiOverride(iort []byte) ([]byte, error) {
	patched, err := PatchIORT(iort)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	err = cpio.WriteRecords(w, []cpio.Record{
		cpio.StaticRecord(patched, cpio.Info{Name: "kernel/firmware/acpi/iort.aml", Mode: cpio.S_IFREG | 0o644}),
	})
	if err != nil {
		return nil, err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	// An archive ends at a multiple of 4, and the next may begin there.
	return append(b.Bytes(), make([]byte, -b.Len()&3)...), nil
}

type lab struct {
	o             Options
	image, initrd string
}

// outcome is what the program said on the console.
type outcome struct {
	ended  bool
	status int
	iort   string
}

func (l *lab) boot(ctx context.Context, initrd []byte, args ...string) (outcome, error) {
	if err := os.WriteFile(l.initrd, initrd, 0o600); err != nil {
		return outcome{}, err
	}
	cmd := exec.CommandContext(ctx, l.o.QEMU, l.arguments(args)...)
	cmd.Stderr = l.o.Console
	console, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	out := follow(console, l.o.Console)
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return out, fmt.Errorf("the machine did not come to its end: %w", ctx.Err())
	case err != nil:
		return out, fmt.Errorf("%s: %w", l.o.QEMU, err)
	case !out.ended:
		return out, errors.New("the machine went down before the program ended")
	}
	return out, nil
}

// follow copies the console and picks out what the program says to the runner.
func follow(r io.Reader, w io.Writer) (out outcome) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if rest, ok := strings.CutPrefix(line, machine.IORTMark); ok {
			out.iort += rest
			continue
		}
		if rest, ok := strings.CutPrefix(line, machine.ExitMark); ok {
			status, err := strconv.Atoi(rest)
			out.ended, out.status = err == nil, status
		}
		fmt.Fprintln(w, line)
	}
	_, _ = io.Copy(w, r) // a line too long ends the search, not the machine
	return out
}

// arguments are QEMU's: a machine with EL2, with PCI devices behind an SMMU that has both stages.
func (l *lab) arguments(args []string) []string {
	// edu takes 100 ms for a DMA. Where time is what instructions take, and nothing runs, that is over at once.
	argv := []string{
		"-M", "virt,virtualization=on,gic-version=3,iommu=smmuv3,acpi=on",
		"-global", "arm-smmuv3.stage=nested",
		"-cpu", "max,pauth-impdef=on",
		"-accel", "tcg,thread=single,tb-size=512",
		"-icount", "shift=1,sleep=off",
		"-smp", "2", "-m", "1G",
		"-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-bios", l.o.Firmware, "-kernel", l.image, "-initrd", l.initrd,
		"-append", "console=ttyAMA0 acpi=force panic=-1 -- " + strings.Join(args, " "),
	}
	// Functions of one device, which nothing keeps apart, share an IOMMU group.
	for _, place := range []string{"addr=2", "addr=3", "addr=4.0,multifunction=on", "addr=4.1"} {
		argv = append(argv, "-device", "edu,dma_mask=0xffffffffffff,"+place)
	}
	return append(argv, l.o.QEMUArgs...)
}
