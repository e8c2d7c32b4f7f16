# The commands of this project. `make help` lists them.

GO ?= $(shell command -v go || echo /usr/local/go/bin/go)
BUILD := build

# The tree may belong to someone else, and git then refuses to tell the revision: a build must not fail of that.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# The kernel of the lab: any arm64 image with iommufd and KVM will do.
LAB_KERNEL ?= $(firstword $(wildcard ../shared/lab/Image-*-iommufd.gz $(BUILD)/lab-kernel/Image.gz))

LIBRARY_PLATFORMS := linux/amd64 linux/arm64 darwin/arm64

.PHONY: help build boot boot-ready bench bench-boot lab lab-ready lab-kernel test vet format staticcheck tidy unit cross test-boot test-lab clean distclean

build: ## build the program, for this machine and for the arm64 machines of the boot
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/vsmmu ./cmd/vsmmu
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -trimpath -ldflags='-s -w' -o $(BUILD)/vsmmu-linux-arm64 ./cmd/vsmmu

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

boot: build boot-ready ## boot a Linux guest behind the SMMU: sets up all that is missing (BOOT_FLAGS='-h' tells the flags)
	$(BUILD)/vsmmu boot $(BOOT_FLAGS)

boot-ready: ## install and fetch what the boot needs, without the boot
	@scripts/need emulator
	@scripts/fetch-kernel $(BUILD)/kernel

bench: ## measure: the Go benchmarks, and QEMU's SMMU where it is installed (BENCH_FLAGS='-h' tells the flags)
	PATH="$$($(GO) env GOROOT)/bin:$$PATH" CGO_ENABLED=0 $(GO) run ./internal/bench $(BENCH_FLAGS)

bench-boot: build boot-ready ## measure a guest's disk through the SMMU, here and in QEMU (BENCH_BOOT_FLAGS='-h' tells the flags)
	@scripts/fetch-peer $(BUILD)/peer
	$(BUILD)/vsmmu bench-boot $(BENCH_BOOT_FLAGS)

lab: build lab-ready ## have a real kernel's iommufd carry out the guest's stage 1: LAB_KERNEL=IMAGE (LAB_FLAGS='-h' tells the flags)
	$(BUILD)/vsmmu lab -kernel '$(LAB_KERNEL)' $(LAB_FLAGS)

lab-ready: ## build and fetch what the lab needs beside the kernel
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) test -c -trimpath -ldflags='-s -w' -o $(BUILD)/lab/iommufd.test ./bridge/iommufd
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) test -c -trimpath -ldflags='-s -w' -o $(BUILD)/lab/vmm.test ./internal/vmm
	@scripts/fetch-qemu $(BUILD)/qemu

lab-kernel: ## build the lab's kernel from Debian's source: 25 minutes of CPU time
	@scripts/build-kernel $(BUILD)/lab-kernel

test: vet format staticcheck tidy unit cross test-boot test-lab ## everything: static checks, unit tests, cross builds, the boot, the lab

vet: ## go vet
	$(GO) vet ./...

format: ## fail if gofmt would change a file
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) && test -z "$$files" || { echo "gofmt would change:" $$files; exit 1; }

staticcheck: ## staticcheck
	$(GO) tool staticcheck ./...

tidy: ## fail if go.mod or go.sum is not tidy
	$(GO) mod tidy -diff

# The limit of time is there to end a hang; what a starved machine takes is no failure.
unit: ## the unit tests and the conformance suite, with the race detector
	@scripts/need compiler
	@scripts/need iasl || test "$$CI" != true # its test says that it was not run
	CGO_ENABLED=1 $(GO) test -race -timeout 1h ./...

cross: ## build for every platform of the library, without cgo
	@set -e; for platform in $(LIBRARY_PLATFORMS); do \
		echo "CGO_ENABLED=0 $(GO) build ./... for $$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build ./...; \
	done

test-boot: build ## the boots that make test runs: where they cannot be run, this says so, and fails if CI=true
	@if $(MAKE) --no-print-directory boot-ready; then \
		$(BUILD)/vsmmu boot -rebind -save-restore 16 -stall && \
		$(BUILD)/vsmmu boot -rebind -save-restore 16 -transport pci -report $(BUILD)/boot/pci.json; \
	else \
		scripts/not-run "the boot of a Linux guest behind the SMMU"; \
	fi

test-lab: build ## the lab, as make test runs it: where it cannot be run, this says so, and fails if CI=true
	@if [ -z '$(LAB_KERNEL)' ]; then \
		echo "lab: there is no kernel for it: build one (make lab-kernel), or give one (LAB_KERNEL=IMAGE)" >&2; \
		scripts/not-run "the lab: iommufd on a real kernel"; \
	elif $(MAKE) --no-print-directory lab-ready; then \
		$(BUILD)/vsmmu lab -kernel '$(LAB_KERNEL)'; \
	else \
		scripts/not-run "the lab: iommufd on a real kernel"; \
	fi

clean: ## remove what was built, not what was fetched
	rm -rf $(BUILD)/vsmmu $(BUILD)/vsmmu-linux-arm64 $(BUILD)/boot $(BUILD)/bench $(BUILD)/bench-boot $(BUILD)/lab

distclean: ## remove what was fetched, too
	rm -rf $(BUILD)
