# make demo | test | tempest | bench | bench-api | kills | fuzz-api | faults | kernel-lab | build | setup | lint | clean
#
# Everything installs its own prerequisites through scripts/setup (Debian 12; root or sudo for apt).

export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

BIN := target/release/nanboku
FUZZ_SECONDS ?= 10
# For example --rounds 9 --figure tcp; see target/release/nanboku-bench --help.
BENCH_ARGS ?=
# Repetitions of each fault; 20 take less than 20 minutes.
FAULT_ROUNDS ?= 20

# How often `make kills` kills the controller, and requests of `make fuzz-api` against a store in memory.
KILLS ?= 100
FUZZ_CASES ?= 50000
# Of each of schemathesis' three rounds.
FUZZ_API_SECONDS ?= 120

.PHONY: docs-check bench-api kills fuzz-api kernel-lab demo test bench faults build setup lint clean help tempest

help:
	@echo "make demo    build everything, bring up both scenarios and show what works (root)"
	@echo "make test    every check and test there is; FUZZ_SECONDS=$(FUZZ_SECONDS) per fuzz target (root)"
	@echo "make bench   compare with plain routing, bridge + VXLAN and nftables (root)"
	@echo "make bench-api  how fast the API is, with 100,000 ports in the store as well"
	@echo "make kills   kill the controller KILLS=$(KILLS) times while clients write, and compare"
	@echo "make fuzz-api  schemathesis, and FUZZ_CASES=$(FUZZ_CASES) requests beside which the store is checked"
	@echo "make kernel-lab  a lab and its checks in QEMU, on Debian's newer kernel and its Geneve device"
	@echo "make faults  what failing gateways cost, FAULT_ROUNDS=$(FAULT_ROUNDS) times each (root)"
	@echo "make build   the release binary, $(BIN)"
	@echo "make docs-check  whether docs/debugging.md shows what its commands say today (root)"
	@echo "make tempest OpenStack's own tests of the network API, against a controller of their own"
	@echo "make setup   install what building and running needs"
	@echo "make lint    the checks without the tests"

setup:
	@scripts/setup

build: setup
	cargo build --release --locked --package nanboku

demo: build
	$(BIN) demo

bench: build
	cargo build --release --locked --package bench
	scripts/bench $(BENCH_ARGS)

bench-api: build
	cargo build --release --locked --package bench
	scripts/bench api $(BENCH_ARGS)

kills:
	NANBOKU_KILLS=$(KILLS) cargo nextest run --locked --package controller --no-capture what_was_answered_survives

fuzz-api:
	@scripts/setup --test
	cargo build --locked --package nanboku
	scripts/fuzz-api $(FUZZ_API_SECONDS)
	NANBOKU_FUZZ_CASES=$(FUZZ_CASES) cargo nextest run --locked --package controller --no-capture -E 'binary(endurance) & test(/^fuzz/)'

faults: build
	scripts/faults $(FAULT_ROUNDS)

kernel-lab: build
	@scripts/setup --test
	scripts/kernel-lab

test:
	@scripts/setup --test
	cargo xtask test --fuzz-seconds $(FUZZ_SECONDS)

tempest:
	cargo build --locked --package nanboku
	scripts/tempest

docs-check:
	cargo xtask test --only debugging

lint:
	@scripts/setup --test
	cargo xtask test --only fmt,clippy,tidy,deny

clean:
	cargo clean
	rm -rf ebpf/target fuzz/target
