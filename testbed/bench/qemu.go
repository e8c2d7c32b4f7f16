package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Addresses of QEMU's virt machine with highmem=off (hw/arm/virt.c).
const (
	smmuBase = 0x0905_0000
	barBase  = 0x1000_0000
	ecamBase = 0x3f00_0000
	ramBase  = 0x4000_0000
)

// Addresses after the guest's structures.
const (
	peerCode   = ramBase + mix.MemorySize
	peerEvents = peerCode + 0x1000 // a queue of one event
)

// peerTLB is the number of translations that QEMU's SMMU holds. It drops all of them when it gets
// one more.
const peerTLB = 256

// peerArguments are QEMU's arguments: an SMMU and the device edu, whose DMA its registers control.
// Not every build of QEMU has the accelerator qtest, which runs no processor. The processor
// therefore waits for an interrupt, and QEMU's clock jumps to the next event.
var peerArguments = []string{
	"-M", "virt,iommu=smmuv3,highmem=off", "-cpu", "cortex-a57", "-m", "64M", "-nodefaults", "-display", "none",
	"-accel", "tcg", "-icount", "shift=0,sleep=off",
	// The code is wfi; b .-4.
	"-device", fmt.Sprintf("loader,addr=%#x,data=%#x,data-len=8", peerCode, uint64(0x17ff_ffff_d503_207f)),
	"-device", fmt.Sprintf("loader,addr=%#x,cpu-num=0", peerCode),
	"-device", fmt.Sprintf("edu,addr=%#x", uint32(mix.StreamID)>>3),
	"-qtest", "stdio", "-qtest-log", "none",
}

// peerTimeout ends a hang. A round takes a few seconds.
const peerTimeout = 30 * time.Minute

// measureQEMU returns how many nanoseconds a command takes in QEMU's SMMU, by the names of the Go
// benchmarks with the same commands.
func measureQEMU(ctx context.Context, path string, rounds int, out io.Writer) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, peerTimeout)
	defer cancel()
	version, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	fmt.Fprintf(out, "\npeer: %s\n", line)

	cmd := exec.CommandContext(ctx, path, peerArguments...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &peer{qtest: newQtest(stdin, stdout)}
	times := p.measure(mix.All, rounds, out)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if p.err != nil {
		said := strings.TrimSpace(stderr.String()) // warnings come before the error
		said = said[strings.LastIndex(said, "\n")+1:]
		return nil, fmt.Errorf("measure %s: %w", path, errors.Join(p.err, ctx.Err(), errors.New(said)))
	}
	return times, nil
}

// peer is QEMU's SMMU with its guest driver.
type peer struct {
	*qtest
	prod smmuv3.Index
}

var peerQueue = smmuv3.Queue{Log2Size: mix.Log2Size}

func (p *peer) measure(mixes []mix.Mix, rounds int, out io.Writer) map[string]float64 {
	p.setUp()
	times := map[string]float64{}
	for _, held := range []int{0, peerTLB} {
		p.hold(held)
		for _, m := range mixes {
			ns := p.best(m, rounds)
			if p.err != nil {
				return nil
			}
			fmt.Fprintf(out, "%3d held  %-30s %10.1f ns/op\n", held, m.Name, ns)
			times[fmt.Sprintf("vsmmu.CommandsSoft/%d/%s", held, m.Name)] = ns
			if held == 0 {
				times["vsmmu.Commands/"+m.Name] = ns
			}
		}
	}
	return times
}

// setUp writes the guest's tables to memory and enables the SMMU.
func (p *peer) setUp() {
	for _, block := range mix.Guest(ramBase, peerTLB) {
		p.write(uint64(block.At), block.Data)
	}
	p.writeq(smmuBase+smmuv3.RegSTRTAB_BASE, ramBase+mix.StreamTable)
	p.writel(smmuBase+smmuv3.RegSTRTAB_BASE_CFG, mix.StreamTableLog2Size)
	p.writeq(smmuBase+smmuv3.RegCMDQ_BASE, ramBase+mix.Queue|mix.Log2Size)
	p.writeq(smmuBase+smmuv3.RegEVENTQ_BASE, peerEvents)
	const enable = smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN
	p.writel(smmuBase+smmuv3.RegCR0, enable)
	p.expect("CR0ACK", uint64(p.readl(smmuBase+smmuv3.RegCR0ACK)), enable)
}

// best measures a mix and returns the best time of a command.
func (p *peer) best(m mix.Mix, rounds int) (ns float64) {
	p.write(ramBase+mix.Queue, m.Fill())
	n := p.affordable()
	for i := range rounds {
		took := p.consume(n)
		if i == 0 || took < ns {
			ns = took
		}
	}
	return ns
}

// affordable returns how many commands a round consumes: a full queue, or fewer if that takes too
// long.
func (p *peer) affordable() uint32 {
	const sample, most = 1 << 12, float64(2 * time.Second)
	n := uint32(1 << mix.Log2Size)
	for ns := p.consume(sample); ns*float64(n) > most && n > sample; {
		n /= 2
	}
	return n
}

// consume makes the SMMU consume n commands by one write of CMDQ_PROD, and returns the time of one.
func (p *peer) consume(n uint32) (ns float64) {
	p.prod = peerQueue.Next(p.prod, n)
	start := time.Now()
	// QEMU consumes the commands before it answers the write.
	p.writel(smmuBase+smmuv3.RegCMDQ_PROD, uint32(p.prod))
	took := time.Since(start)
	p.expect("CMDQ_CONS", uint64(p.readl(smmuBase+smmuv3.RegCMDQ_CONS)), uint64(p.prod))
	p.expect("GERROR", uint64(p.readl(smmuBase+smmuv3.RegGERROR)), 0)
	return float64(took.Nanoseconds()) / float64(n)
}

// eduPatience is the limit of a transfer in milliseconds. The device's own delay is 100 ms of its
// clock.
const eduPatience = 10_000

// Registers of the device edu (qemu/docs/specs/edu.rst), which copies between memory and its
// buffer.
const (
	eduSource      = barBase + 0x80
	eduDestination = barBase + 0x88
	eduCount       = barBase + 0x90
	eduCommand     = barBase + 0x98
	eduBuffer      = 0x4_0000
	eduFromMemory  = 0b01
	eduToMemory    = 0b11
	eduBusy        = 0b01
)

// hold makes the device read pages, whose translations the SMMU then holds.
func (p *peer) hold(pages int) {
	if pages == 0 {
		return
	}
	const function = ecamBase + uint64(mix.StreamID)<<12
	p.writel(function+0x10, barBase) // BAR 0
	p.writel(function+0x04, 0b110)   // command: memory space, bus master

	// The device writes the last word that it read to another address. This shows that its DMA was
	// translated.
	const mark = 0x0123_4567_89ab_cdef
	p.write(ramBase+mix.Page, binary.LittleEndian.AppendUint64(nil, mark))
	for i := range uint64(pages) {
		p.transfer(i<<12, eduBuffer, eduFromMemory)
	}
	p.transfer(eduBuffer, 8, eduToMemory)
	p.expect("the word that DMA wrote", p.readq(ramBase+mix.Page+8), mark)
	p.expect("EVENTQ_PROD", uint64(p.readl(smmuBase+smmuv3.RegEVENTQ_PROD)), 0)
}

func (p *peer) transfer(source, destination, command uint64) {
	p.writeq(eduSource, source)
	p.writeq(eduDestination, destination)
	p.writeq(eduCount, 8)
	p.writeq(eduCommand, command)
	for range eduPatience {
		if p.readq(eduCommand)&eduBusy == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	p.expect("the device's command register", eduBusy, 0)
}

func (p *peer) expect(what string, got, want uint64) {
	if p.err == nil && got != want {
		p.err = fmt.Errorf("%s is %#x, want %#x", what, got, want)
	}
}
