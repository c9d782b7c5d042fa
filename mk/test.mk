# SPDX-License-Identifier: Apache-2.0
# Unit tests: tests/unit/F/test_X.c is one cmocka program linked with folder F's archive and what F may use.
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT := $(patsubst %.c,$(B)/%,$(UNIT_SRC))
USES_common := common
USES_volume := volume common
USES_recipient := recipient common
USES_backends := backends volume common
USES_csi := csi common
USES_http := http common
USES_vault := vault http common
USES_keyd := keyd vault http recipient volume common
USES_crypt := crypt recipient volume common
USES_controller := controller keyd crypt backends volume common
USES_node := node keyd crypt backends volume common
USES_device := device recipient volume common
USES_launch := launch common
USES_scheduler := scheduler csi keyd http recipient volume common
USES_cofferctl := cofferctl device csi keyd crypt vault http recipient backends volume common
SYSLIBS_csi = $(LIBS_GRPC)
SYSLIBS_cofferctl = $(LIBS_CTL)
SYSLIBS_device = -lcrypto
SYSLIBS_launch = -lseccomp
SYSLIBS_scheduler = $(LIBS_SCHEDULER)
SYSLIBS_recipient = -lcrypto
SYSLIBS_http = $(LIBS_KEYD)
SYSLIBS_vault = $(LIBS_KEYD)
SYSLIBS_keyd = $(LIBS_KEYD)
SYSLIBS_crypt = $(LIBS_CRYPT)
define UNIT_RULE
$(B)/tests/unit/$(1)/%: $(B)/obj/tests/unit/$(1)/%.o $(call lib,$(USES_$(1)) tests/support)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -pie -o $$@ $$< $(call lib,tests/support $(USES_$(1))) $$(SYSLIBS_$(1)) $$(LIBS_COMMON) $$(LIBS_TEST)
endef
$(foreach f,common volume recipient backends csi http vault keyd crypt controller node device launch scheduler cofferctl,$(eval $(call UNIT_RULE,$(f))))
.SECONDARY:

.PHONY: unit
unit: $(UNIT) ## build and run the unit tests
	$(Q)tests/run.py $(UNIT)

# Fuzz targets: tests/fuzz/fuzz_X.c, seeds in corpus/X/, perhaps a dictionary X.dict. A target may use any folder.
# $(B)/tests/fuzz/X replays the seeds, $(B)/tests/fuzz/X.libfuzzer looks for new ones (PROFILE=fuzz).
FUZZ_NAMES := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ := $(FUZZ_NAMES:%=$(B)/tests/fuzz/%)
FUZZ_LIBS := $(call lib,controller node scheduler cofferctl device launch csi keyd vault http crypt backends recipient volume common tests/support)
FUZZ_SYSLIBS = -lmicrohttpd -lgnutls $(LIBS_GRPC) $(LIBS_CRYPT) $(LIBS_KEYD) $(LIBS_COMMON)
FUZZ_LINK = $(CC) $(ALL_LDFLAGS) -pie $(1) -o $@ $(filter %.o,$^) -Wl,--start-group $(FUZZ_LIBS) -Wl,--end-group \
  -Wl,--as-needed $(FUZZ_SYSLIBS)
$(FUZZ): $(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/fuzz_%.o $(B)/obj/tests/fuzz/replay.o $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(Q)$(call FUZZ_LINK)
$(FUZZ:=.libfuzzer): $(B)/tests/fuzz/%.libfuzzer: $(B)/obj/tests/fuzz/fuzz_%.o $(FUZZ_LIBS)
	@mkdir -p $(@D)
	$(Q)$(call FUZZ_LINK,-fsanitize=fuzzer)

# make again with the tests' profile (test, unless the command says another) and all processors
TEST_PROFILE := $(if $(filter file,$(origin PROFILE)),test,$(PROFILE))
JOBS ?= $(shell nproc)
AGAIN = +$(Q)$(MAKE) --no-print-directory PROFILE=$(TEST_PROFILE) $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

COMPONENT := $(filter-out %lib.py,$(wildcard tests/component/*.py))
# asked for only where they are used: a machine that has no Python yet gets as far as `make deps`
STORIES = $(shell e2e/run --names)
# STORY=vault: all that stand on a real Vault
VAULT_STORIES = $(filter vault-% erase client-keys,$(STORIES))
CHECK_SUITES := $(COMPONENT) $(UNIT) $(foreach f,$(FUZZ_NAMES),"$(B)/tests/fuzz/$(f) tests/fuzz/corpus/$(f)")
# make test leaves these to make e2e, for their time. Kubernetes' programs are an hour of two slow processors, to build and to run;
# it stands on what the components deploy_*, `scheduler-local` and `rotation` show.
LEFT_TO_E2E := kubernetes% filesystems input rekey launch faults power soak scheduler \
  $(addprefix scheduler-,kill browser kubernetes kubernetes-api)
# the long ones first
ALL_SUITES = $(patsubst %,"e2e/run %",$(filter-out $(LEFT_TO_E2E),$(STORIES))) e2e/vm/selftest.py e2e/sanity/wire.sh $(CHECK_SUITES)
# for what hangs: a story has its own limit (e2e/run), and a busy machine takes ten times as long as a quiet one
STORY_SECONDS := 15000
TEST_BIN := $(BIN) $(addprefix $(B)/,$(TEST_PROGRAMS))
TEST_ENV = COFFER_BIN=$(abspath $(B)) COFFER_BUILD=$(abspath $(BUILD)) VAULT=$(VAULT) \
  TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$(abspath tests/support/tsan.supp)

.PHONY: check check-run fuzz fuzz-run fuzz-coverage fuzz-coverage-run test test-run e2e e2e-run
check: ## unit and component tests, fuzz corpora (no root); PROFILE=asan works
	$(AGAIN) check-run
check-run: $(TEST_BIN) $(UNIT) $(FUZZ)
	$(Q)$(TEST_ENV) tests/run.py --log $(BUILD)/log $(CHECK_SUITES)

fuzz: ## look for new inputs: make fuzz T=name S=60 (T=all: one after the other)
	$(if $(filter all $(FUZZ_NAMES),$(T)),,$(error which one? make fuzz T=NAME S=SECONDS; NAME is one of: all $(FUZZ_NAMES)))
	+$(Q)$(MAKE) --no-print-directory PROFILE=fuzz CC=clang -j$(JOBS) fuzz-run
fuzz-run: $(patsubst %,$(B)/tests/fuzz/%.libfuzzer,$(if $(filter all,$(T)),$(FUZZ_NAMES),$(T)))
	$(Q)tools/fuzz.sh $(BUILD) $(or $(S),60) $(patsubst $(B)/tests/fuzz/%.libfuzzer,%,$^)
fuzz-coverage: ## which code the fuzz targets' seeds, and what make fuzz found, run: make fuzz-coverage T=name (all)
	+$(Q)$(MAKE) --no-print-directory PROFILE=coverage CC=clang -j$(JOBS) fuzz-coverage-run
fuzz-coverage-run: $(patsubst %,$(B)/tests/fuzz/%,$(if $(filter-out all,$(T)),$(T),$(FUZZ_NAMES)))
	$(Q)tools/fuzz-coverage.py $(BUILD) $(notdir $^)

# the Vault server and Helm are built beside it, when they aren't yet; the first suite that needs one waits
test: ## everything CI runs; sweeps are sampled to a sixteenth
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)mkdir -p $(BUILD)/log; { e2e/vault/build.sh $(VAULT); e2e/helm/build.sh; } >$(BUILD)/log/go-builds.log 2>&1 &
	$(AGAIN) test-run
# A virtual processor that waits for another one's lock turns: two VMs of two on two processors take up to twice as long as of one.
test-run: $(TEST_BIN) $(UNIT) $(FUZZ) leaky-bin
	$(Q)$(TEST_ENV) COFFER_HELM=build COFFER_CPUS=1 COFFER_SAMPLE=$(or $(SAMPLE),16) tests/run.py --timeout $(STORY_SECONDS) --log $(BUILD)/log $(ALL_SUITES)

e2e: ## list and run all stories whole, or one: make e2e STORY=name
	$(Q)$(MAKE) --no-print-directory deps
	$(AGAIN) e2e-run
e2e-run: $(TEST_BIN) leaky-bin
ifeq ($(STORY),vault)
	$(Q)$(TEST_ENV) COFFER_SAMPLE=$(or $(SAMPLE),1) tests/run.py --timeout $(STORY_SECONDS) --log $(BUILD)/log $(VAULT_STORIES:%="e2e/run %")
else ifdef STORY
	$(Q)$(TEST_ENV) COFFER_SAMPLE=$(or $(SAMPLE),1) e2e/run $(STORY)
else
	$(Q)e2e/run --list
	$(Q)$(TEST_ENV) COFFER_SAMPLE=$(or $(SAMPLE),1) tests/run.py --timeout $(STORY_SECONDS) --log $(BUILD)/log $(STORIES:%="e2e/run %")
endif

# the build that leaks on purpose: its story must catch it
.PHONY: leaky-bin
leaky-bin:
	+$(Q)$(MAKE) --no-print-directory PROFILE=leaky all
