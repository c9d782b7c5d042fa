# SPDX-License-Identifier: Apache-2.0
# Debian 12's packages: the one place that lists them. `make deps` installs what is missing (root), else prints the line.
# Recipes that need them call `$(MAKE) deps` first and then make again, because mk/flags.mk looks at what is installed.
DEPS_BUILD := gcc g++ make pkg-config git protobuf-compiler protobuf-c-compiler libprotobuf-c-dev libgrpc-dev libabsl-dev \
  libc-ares-dev zlib1g-dev libcryptsetup-dev libdevmapper-dev libblkid-dev libjansson-dev libcurl4-openssl-dev libssl-dev libseccomp-dev \
  libmd-dev libmicrohttpd-dev libgnutls28-dev libcmocka-dev
DEPS_RUN := qemu-system-x86 busybox-static kmod cryptsetup-bin dmsetup e2fsprogs xfsprogs btrfs-progs socat cpio zstd xz-utils binutils \
  strace curl iproute2 python3 python3-yaml nodejs nginx-light chromium openssl util-linux mount procps ca-certificates systemd udev
DEPS_LINT := clang clang-format clang-tidy cppcheck llvm libclang-rt-14-dev universal-ctags shellcheck pyflakes3 mandoc

# what compiles without calling `make deps` first says so before a compiler does
COMPILES := $(filter-out help deps deb clean demo test e2e bench vault-server kubernetes-components,$(or $(MAKECMDGOALS),all))
MISSING := $(if $(COMPILES),$(strip $(foreach p,$(firstword $(CC)) protoc-c,$(if $(shell command -v $(p)),,$(p)))))
$(if $(MISSING),$(error missing: $(MISSING); `make deps` installs what a build needs))

.PHONY: deps
deps: $(BUILD)/deps.stamp ## install the Debian packages that are missing (root; else the line to type)
	@:
$(BUILD)/deps.stamp: mk/deps.mk tools/deps.sh
	$(Q)tools/deps.sh $(DEPS_BUILD) $(DEPS_RUN) $(DEPS_LINT)
	$(Q)mkdir -p $(@D) && touch $@
