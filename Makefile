# SPDX-License-Identifier: Apache-2.0
#
# A thin front of meson; `make help` lists the targets.  Directories:
#   build/        products and unit tests        build/deps  jemalloc (kept)
#   build/asan    unit tests, ASan and UBSan     build/tsan  unit tests, TSan
#   build/checked products with assertion level 3, lock checks and failpoints

PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc)
# WERROR=1: warnings are errors (CI)
WERROR ?=
NINJA = ninja -j$(JOBS)
MESON_ARGS = -Dprefix=$(PREFIX) -Dwerror=$(if $(WERROR),true,false)
export QUIRE_JOBS = $(JOBS)

.PHONY: all
all: need configure
	@$(NINJA) -C build

.PHONY: help
help:
	@echo 'make            build everything into build/'
	@echo 'make setup      install the Debian packages that dev/packages names'
	@echo 'make check      everything a change must pass: lints, tests, sanitizers'
	@echo 'make quick      unit tests only (under a minute)'
	@echo 'make lint       dev/check: what a machine can check of STYLE.md'
	@echo 'make mutants    each guard against a race switched off: does a test notice?'
	@echo 'make demo       a look at what quire does'
	@echo 'make asan       unit tests under AddressSanitizer and UBSan'
	@echo 'make tsan       unit tests marked "tsan" under ThreadSanitizer'
	@echo 'make checked    products with assertions, lock checks, failpoints: build/checked'
	@echo 'make install    PREFIX=/usr/local, DESTDIR='
	@echo 'make clean      remove build/ except build/deps;  make distclean: all of it'
	@echo 'Variables: JOBS=N, WERROR=1'

# ---- what must be there ---------------------------------------------------------
.PHONY: need
need:
	@dev/lib/packages need build

.PHONY: setup
setup:
	@dev/lib/packages install build optional test programs

.PHONY: configure
configure: need
	@dev/lib/fetch-jemalloc build/deps
	@dev/lib/configure build $(MESON_ARGS)

# Warnings are judged in the normal build: sanitizers make gcc see ghosts.
# ---- variants ---------------------------------------------------------------------
.PHONY: build-asan build-tsan
build-asan: configure
	@dev/lib/configure build/asan -Dsanitizer=address
	@$(NINJA) -C build/asan

build-tsan: configure
	@dev/lib/configure build/tsan -Dsanitizer=thread
	@$(NINJA) -C build/tsan

.PHONY: asan tsan checked
asan: build-asan
	@tests/run asan
tsan: build-tsan
	@tests/run tsan
checked: configure
	@dev/lib/configure build/checked $(MESON_ARGS) -Dchecked=true
	@$(NINJA) -C build/checked

# ---- checks -------------------------------------------------------------------------
.PHONY: check
check: setup
	@$(MAKE) --no-print-directory all build-asan build-tsan
	@tests/run full

.PHONY: quick
quick: all
	@tests/run quick

.PHONY: lint
lint: all
	@dev/check

.PHONY: mutants
mutants: all
	@dev/mutants

.PHONY: demo
demo: setup
	@$(MAKE) --no-print-directory all
	@examples/demo/run

# ---- install, clean --------------------------------------------------------------------
.PHONY: install
install: all
	@DESTDIR='$(if $(DESTDIR),$(abspath $(DESTDIR)))' meson install -C build --no-rebuild

.PHONY: clean
clean:
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} +; fi

.PHONY: distclean
distclean:
	@rm -rf build
