# The commands of this project. `make help` lists them.
#
# There are two modules: the library in this directory, and testbed/, which tests the library on real kernels. go.work
# ties them together, with the examples that are modules of their own. GOWORK=off builds the library alone, with the
# requirements of its own go.mod.

GO ?= $(shell command -v go || echo /usr/local/go/bin/go)
BUILD := build
MODULES := . examples/prometheus testbed

# If the tree belongs to another user, git does not tell the revision. A build must not fail for that reason.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# The lab's kernel: any arm64 image with iommufd and KVM.
LAB_KERNEL ?= $(firstword $(wildcard ../shared/lab/Image-*-iommufd.gz $(BUILD)/lab-kernel/Image.gz))

# The tables of make test; make tables boots by all.
TEST_TABLES := wired,wired-msi,no-sync,msi,no-its,rmr,bases,two-smmus,three-smmus,components,httu-1,non-coherent

LIBRARY_PLATFORMS := linux/amd64 linux/arm64 darwin/arm64
ARM64 := CGO_ENABLED=0 GOOS=linux GOARCH=arm64

.PHONY: help build boot boot-ready tables bench bench-boot lab lab-check lab-ready lab-kernel \
	test vet format lint tidy unit floor latest embed cross test-boot test-lab clean distclean

build: ## build the programs: for this machine, and the testbed's for arm64 machines
	@scripts/stage "build: vsmmu and testbed"
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/vsmmu ./cmd/vsmmu
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/testbed ./testbed/cmd/testbed
	$(ARM64) $(GO) build -trimpath -ldflags='-s -w' -o $(BUILD)/testbed-linux-arm64 ./testbed/cmd/testbed

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

boot: ## boot a Linux guest behind the SMMU; installs and fetches what is missing (BOOT_FLAGS='-h' lists the flags)
	@$(MAKE) --no-print-directory build $(if $(filter -h -help --help,$(BOOT_FLAGS)),,boot-ready)
	@$(if $(findstring uefi,$(BOOT_FLAGS)),scripts/fetch-efi $(BUILD)/efi,:)
	$(BUILD)/testbed boot $(BOOT_FLAGS)

boot-ready: ## install and fetch everything that the boot needs
	@scripts/need emulator
	@scripts/fetch-kernel $(BUILD)/kernel

tables: ## boot a Linux guest by many ACPI tables; a small LAB_KERNEL takes seconds for each (TABLES_FLAGS='-h' lists the flags)
	@$(MAKE) --no-print-directory build $(if $(filter -h -help --help,$(TABLES_FLAGS)),,boot-ready)
	$(BUILD)/testbed tables $(if $(LAB_KERNEL),-kernel '$(LAB_KERNEL)',) $(TABLES_FLAGS)

bench: ## measure: the Go benchmarks, and QEMU's SMMU where it is installed (BENCH_FLAGS='-h' lists the flags)
	PATH="$$($(GO) env GOROOT)/bin:$$PATH" CGO_ENABLED=0 $(GO) run ./testbed/bench $(BENCH_FLAGS)

bench-boot: ## measure a guest's disk through the SMMU, here and in QEMU (BENCH_BOOT_FLAGS='-h' lists the flags)
	@$(MAKE) --no-print-directory build $(if $(filter -h -help --help,$(BENCH_BOOT_FLAGS)),,boot-ready)
	@$(if $(filter -h -help --help,$(BENCH_BOOT_FLAGS)),:,scripts/fetch-peer $(BUILD)/peer)
	$(BUILD)/testbed bench-boot $(BENCH_BOOT_FLAGS)

lab: lab-check ## test bridge/iommufd on a real kernel: LAB_KERNEL=IMAGE (LAB_FLAGS='-h' lists the flags)
ifeq ($(filter -h -help --help,$(LAB_FLAGS)),)
	@$(MAKE) --no-print-directory build lab-ready
	$(BUILD)/testbed lab -kernel '$(LAB_KERNEL)' $(LAB_FLAGS)
endif

lab-check: ## check the input files of make lab before it builds the tests
	@test -z '$(LAB_KERNEL)' || test -e '$(LAB_KERNEL)' || { echo "make lab: the kernel: LAB_KERNEL=$(LAB_KERNEL): no such file" >&2; exit 2; }
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BUILD)/testbed ./testbed/cmd/testbed
	@$(BUILD)/testbed lab -check -kernel '$(LAB_KERNEL)' $(LAB_FLAGS)

lab-ready: ## build and fetch what the lab needs beside the kernel
	@scripts/fetch-qemu $(BUILD)/qemu
	$(ARM64) $(GO) test -c -trimpath -ldflags='-s -w' -o $(BUILD)/lab/iommufd.test ./testbed/labtest/kerneltest
	$(ARM64) $(GO) test -c -trimpath -ldflags='-s -w' -o $(BUILD)/lab/vmm.test ./testbed/vmm

lab-kernel: ## build the lab's kernel from Debian's source (a long build)
	@scripts/build-kernel $(BUILD)/lab-kernel

test: vet format tidy lint unit floor latest embed cross test-boot test-lab ## everything: static checks, unit tests, cross builds, boots, lab

vet: ## go vet, in every module
	@scripts/stage "vet: every module"
	@for m in $(MODULES); do (cd $$m && $(GO) vet ./...) || exit 1; done

format: ## fail if gofmt would change a file
	@scripts/stage "format"
	@files=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) && test -z "$$files" || { echo "gofmt would change:" $$files; exit 1; }

tidy: ## fail if go.mod or go.sum of the library or the testbed is not tidy
	@scripts/stage "tidy: the modules' requirements"
	@for m in $(MODULES); do (cd $$m && $(GO) mod tidy -diff) || exit 1; done

lint: ## staticcheck and golangci-lint, as tools/go.mod pins them
	@scripts/stage "lint: staticcheck, golangci-lint (the first run builds them)"
	@GO=$(GO) scripts/lint $(BUILD)/tools $(MODULES)

# The time limit ends a hang. It is long enough for a slow machine.
unit: ## the unit tests, with the race detector; the library with the oldest dependencies that it allows
	@scripts/need compiler
	@scripts/need iasl || test "$$CI" != true # without iasl, its test is skipped and says so
	@scripts/stage "unit: the library, with the race detector and its oldest dependencies"
	GOWORK=off CGO_ENABLED=1 $(GO) test -race -timeout 1h ./...
	@scripts/stage "unit: the testbed, with the race detector"
	cd testbed && CGO_ENABLED=1 $(GO) test -race -timeout 1h ./...
	@scripts/stage "unit: the examples that are modules of their own"
	cd examples/prometheus && GOWORK=off CGO_ENABLED=1 $(GO) test -race ./...

floor: ## build and test the library with the oldest Go version that it supports
	@scripts/stage "floor: the library with the oldest Go that it allows"
	@GO=$(GO) scripts/floor $(BUILD)/floor

latest: ## build and test a copy of the library with the latest version of every dependency
	@scripts/stage "latest: the library with the latest of every dependency"
	@GO=$(GO) scripts/latest $(BUILD)/latest

embed: ## build a program that uses the library beside the usual dependencies of a VMM
	@scripts/stage "embed: a program beside gvisor-tap-vsock, with go 1.25"
	@GO=$(GO) scripts/embed $(BUILD)/embed

cross: ## build the library for every platform it supports, without cgo
	@scripts/stage "cross: $(LIBRARY_PLATFORMS)"
	@set -e; for platform in $(LIBRARY_PLATFORMS); do \
		GOWORK=off CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build ./...; \
	done
	@cd testbed && $(ARM64) $(GO) vet ./...

# By ACPI, Debian's kernel takes both transports in one boot, and a small kernel boots by many tables. Its host is
# Debian's. Without a small kernel, Debian's boots by the tables that older kernels read in another way.
test-boot: build ## the boots of make test; fails under CI=true where they cannot run, and says so elsewhere
	@scripts/stage "boot: a Linux guest, disks on MMIO, then on PCI; then by ACPI"
	@if $(MAKE) --no-print-directory boot-ready; then \
		$(BUILD)/testbed boot -rebind -save-restore 16 -stall && \
		$(BUILD)/testbed boot -rebind -save-restore 16 -transport pci -report $(BUILD)/boot/pci.json && \
		$(BUILD)/testbed boot -firmware acpi -rebind -stall -transport mixed -report $(BUILD)/boot/acpi.json && \
		$(BUILD)/testbed tables $(if $(LAB_KERNEL),-kernel '$(LAB_KERNEL)',) -only $(if $(LAB_KERNEL),$(TEST_TABLES),wired-msi); \
	else \
		scripts/not-run "the boot of a Linux guest behind the SMMU"; \
	fi

test-lab: build ## the lab of make test; if it cannot run, fails with CI=true, and prints a notice otherwise
	@scripts/stage "lab: bridge/iommufd on a real kernel"
	@if [ -z '$(LAB_KERNEL)' ]; then \
		echo "lab: no kernel: build one (make lab-kernel), or give one (LAB_KERNEL=IMAGE)" >&2; \
		scripts/not-run "the lab: iommufd on a real kernel"; \
	elif ! $(BUILD)/testbed lab -check -kernel '$(LAB_KERNEL)'; then \
		exit 2; \
	elif $(MAKE) --no-print-directory lab-ready; then \
		$(BUILD)/testbed lab -kernel '$(LAB_KERNEL)'; \
	else \
		scripts/not-run "the lab: iommufd on a real kernel"; \
	fi

clean: ## remove built files, and keep fetched files
	rm -rf $(BUILD)/vsmmu $(BUILD)/testbed $(BUILD)/testbed-linux-arm64 $(BUILD)/boot $(BUILD)/bench $(BUILD)/bench-boot $(BUILD)/lab \
		$(BUILD)/floor $(BUILD)/latest $(BUILD)/embed $(BUILD)/tools

distclean: ## remove built and fetched files
	rm -rf $(BUILD)
