# Every target runs from a fresh clone; `make test` and `make deps` install what they need.
CARGO   ?= cargo
PREFIX  ?= /usr/local
SECONDS ?= 60
TARGET  := $(or $(CARGO_TARGET_DIR),target)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DIST    := $(TARGET)/dist/ringrelay-$(VERSION)-$(shell uname -m)-linux

# Naming the target keeps flags for it away from build scripts and macros.
TRIPLE   = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: help run server client build build-all release static install test deps lint fuzz bench bench-peers bench-micro perf-gate perf-ab clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: ## the relay with ./config.yaml
	$(CARGO) run --release

server: ## the chat server on port 8080 (PORT=… for another)
	$(CARGO) run --release -- start

client: ## a chat client in the terminal (USER_NAME=… HOST=… PORT=…; options by ARGS)
	$(CARGO) run --release -- connect $(ARGS)

build: ## target/release/ringrelay
	$(CARGO) build --release

build-all: ## ringrelay and loadgen
	$(CARGO) build --release -p ringrelay -p loadgen

release: build-all ## stripped binaries and their checksums in target/dist
	rm -rf $(DIST) && mkdir -p $(DIST)
	for bin in ringrelay loadgen; do strip -o $(DIST)/$$bin $(TARGET)/release/$$bin; done
	cp config.yaml README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(DIST)/
	tar -C $(dir $(DIST)) --owner=0 --group=0 -czf $(DIST).tar.gz $(notdir $(DIST))
	cd $(dir $(DIST)) && sha256sum $(notdir $(DIST)).tar.gz | tee $(notdir $(DIST)).tar.gz.sha256

static: ## ringrelay without shared libraries, for images FROM scratch: target/static/ringrelay
	RUSTFLAGS='$(RUSTFLAGS) -C target-feature=+crt-static' $(CARGO) build --release --locked -p ringrelay --target $(TRIPLE)
	install -D -m 755 $(TARGET)/$(TRIPLE)/release/ringrelay $(TARGET)/static/ringrelay

install: build-all ## binaries into PREFIX/bin (default /usr/local), config.yaml into PREFIX/share/ringrelay
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(TARGET)/release/ringrelay $(TARGET)/release/loadgen
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/ringrelay config.yaml

test: ## everything that must hold
	.ci/test

deps: ## what the tests need beside Rust
	.ci/deps

lint: ## format and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fuzz: ## mutated input against the protocol for SECONDS (default 60)
	proto/fuzz/run.sh $(SECONDS)

bench: build-all ## ringrelay beside its peers, interleaved (root: in an own network namespace); options by ARGS
	perf/compare.py $(ARGS)

bench-peers: build-all ## the same beside every peer that can be built here; table and plot in target/compare
	perf/compare.py --servers all --name peers $(ARGS)

perf-gate: ## what an operation costs, counted, against perf/budgets.toml; BASE=REF: against the merge base too
	perf/gate.py $(if $(BASE),--base $(BASE)) $(ARGS)

perf-ab: ## CPU time per delivery beside the merge base with BASE=REF, in pairs; for a quiet machine
	perf/ab.py --base $(or $(BASE),$(error BASE=REF is needed)) $(ARGS)

bench-micro: ## the data path piece by piece; a filter and options by ARGS
	$(CARGO) bench -p benches $(if $(ARGS),-- $(ARGS))

clean: ## all that was built or fetched
	$(CARGO) clean
	rm -rf .cache engine/tests/foreign/node_modules perf/peers/*/node_modules
