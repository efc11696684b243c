# SPDX-License-Identifier: Apache-2.0
# The commands of this project; continuous integration calls the same ones.

.PHONY: help demo test test-vm soak fuzz bench check fmt build packages image
SHELL := /bin/bash
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 10

demo: ## show a pod's whole life on this machine, and that nothing of it is left (root)
	@scripts/demo.sh

test: ## format, lints and all tests (root)
	@scripts/test.sh

test-vm: ## the tests in a virtual machine with cgroup v2, systemd and AppArmor (root)
	@scripts/vm.sh

soak: ## random lives and deaths of pods for MINUTES, and the proof that nothing is left (root)
	@scripts/soak.sh

fuzz: ## fuzz one TARGET of fuzz/ for SECONDS (nightly compiler, cargo-fuzz; root for layers)
	cd fuzz && mkdir -p corpus/$(or $(TARGET),whiteouts) && \
	cargo +nightly fuzz run $(or $(TARGET),whiteouts) corpus/$(or $(TARGET),whiteouts) \
	    $(patsubst fuzz/%,%,$(wildcard fuzz/seeds/$(or $(TARGET),whiteouts))) -- \
	    $(patsubst fuzz/%,-dict=%,$(wildcard fuzz/dictionaries/$(TARGET).dict)) \
	    -max_total_time=$(or $(SECONDS),600)

bench: ## measure; COMPARE=containerd measures that as well, PULL=1 pulls large images (root)
	@scripts/bench.sh $(BENCH_ARGS)

check: ## lints, documentation, and dependencies where cargo-deny is installed
	cargo clippy --all-targets --features demo -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib --bins
	@if command -v cargo-deny > /dev/null; then cargo deny check; else echo "cargo-deny is not installed: dependencies were not checked"; fi

fmt: ## format the code
	cargo fmt

build: ## the daemon, and the small static monitor (target/release, target/monitor)
	@. scripts/lib.sh && build_release

packages: ## .deb, .rpm and .tar.gz in target/packages; ARCHITECTURE=arm64 cross-builds
	@scripts/packages.sh

image: ## the image of deploy/daemonset.yaml, target/packages/criquet-installer.tar
	@scripts/image.sh
