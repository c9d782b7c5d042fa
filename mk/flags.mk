# SPDX-License-Identifier: Apache-2.0
# Compiler, profiles and libraries.
#   release  optimised, the two gRPC daemons static-pie      test   the same with fault points compiled in
#   asan     AddressSanitizer + UBSan, everything dynamic    leaky  test + places that leak a key on purpose
#   tsan     ThreadSanitizer, everything dynamic             fuzz   asan for libFuzzer (clang; make fuzz sets it)
#   coverage counters for llvm-cov (clang; make fuzz-coverage sets it)
PROFILE ?= release
BUILD ?= build
B := $(BUILD)/$(PROFILE)
GEN := $(BUILD)/gen
V ?= 0
comma := ,
Q := $(if $(filter 1,$(V)),,@)
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
# 1: warnings are errors (development and CI); 0 for packagers with other compilers
WERROR ?= 1
VERSION := 0.1.0

WARN := -Wall -Wextra -Wshadow -Wvla -Wcast-qual -Wformat=2 -Wconversion -Wstrict-prototypes \
  -Wmissing-prototypes -Wundef -Wpointer-arith -Wno-unused-parameter $(if $(filter 1,$(WERROR)),-Werror)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE
CPPFLAGS += -I. -isystem $(GEN) -D_GNU_SOURCE -DCOFFER_VERSION='"$(VERSION)"'
CFLAGS_release := -O2 -g -ffile-prefix-map=$(CURDIR)=. -D_FORTIFY_SOURCE=2 $(HARDEN)
# an index that is out of its array's bounds ends the program: every story looks for one
CFLAGS_test := -O1 -g -DCOFFER_FAULT -fsanitize=bounds -fsanitize-undefined-trap-on-error $(HARDEN)
CFLAGS_leaky := $(CFLAGS_test) -DCOFFER_LEAKY
CFLAGS_asan := -O1 -g -DCOFFER_FAULT -DCOFFER_SANITIZER -fsanitize=address,undefined -fno-sanitize-recover=all \
  -fno-omit-frame-pointer -fPIE
LDFLAGS_release := -Wl,-z,relro,-z,now
LDFLAGS_test := $(LDFLAGS_release)
LDFLAGS_leaky := $(LDFLAGS_release)
LDFLAGS_asan := -fsanitize=address,undefined
CFLAGS_tsan := -O1 -g -DCOFFER_FAULT -DCOFFER_SANITIZER -fsanitize=thread -fno-omit-frame-pointer -fPIE
LDFLAGS_tsan := -fsanitize=thread
CFLAGS_fuzz := $(CFLAGS_asan) -fsanitize=fuzzer-no-link
LDFLAGS_fuzz := $(LDFLAGS_asan)
CFLAGS_coverage := -O1 -g -DCOFFER_FAULT -fPIE -fprofile-instr-generate -fcoverage-mapping
LDFLAGS_coverage := -fprofile-instr-generate
ALL_CFLAGS := -std=gnu11 $(WARN) $(CFLAGS_$(PROFILE)) $(CFLAGS)
ALL_LDFLAGS := $(LDFLAGS_$(PROFILE)) $(LDFLAGS)

# libgrpc_unsecure is absl's, c-ares' and upb's user; Debian's pkg-config lists only a part of them
ABSL := $(patsubst /usr/lib/x86_64-linux-gnu/lib%.a,-l%,$(wildcard /usr/lib/x86_64-linux-gnu/libabsl_*.a))
# --no-warnings: glibc warns of getaddrinfo in a static program; a unix socket never resolves a name
GRPC_ARCHIVES := -Wl,--no-warnings -lprotobuf-c -Wl,--start-group -lgrpc_unsecure -lgpr -lupb -laddress_sorting -lcares \
  $(ABSL) -Wl,--end-group
LIBS_GRPC_STATIC := $(GRPC_ARCHIVES) -lz -lstdc++ -lm
LIBS_GRPC_SHARED := -lprotobuf-c -lgrpc_unsecure -lgpr
STATIC := $(if $(filter asan tsan fuzz coverage,$(PROFILE)),,1)
LIBS_GRPC := $(if $(STATIC),$(LIBS_GRPC_STATIC),$(LIBS_GRPC_SHARED))
LIBS_COMMON := -ljansson -lmd -lpthread
# cofferctl asks Vault: Debian's libcurl can't be linked statically with all it wants, gRPC stays in the program
LIBS_CTL := $(if $(STATIC),-Wl$(comma)-Bstatic $(GRPC_ARCHIVES) -lstdc++ -Wl$(comma)-Bdynamic -lz -lm,$(LIBS_GRPC_SHARED)) -lcurl -lcrypto
LIBS_SCHEDULER := $(LIBS_CTL) -lmicrohttpd -lgnutls
LIBS_LAUNCH := -lseccomp
LIBS_CRYPT := -lcryptsetup -ldevmapper -lblkid -lcrypto -lseccomp
LIBS_KEYD := -lcurl -lcrypto -lseccomp
LIBS_TEST := -lcmocka
