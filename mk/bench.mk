# SPDX-License-Identifier: Apache-2.0
# The figures of docs/BENCHMARKS.md: make bench, or one part of them: make bench PART=rpc (volumes, keyslot, vault, place, scheduler, stage, memory, dmcrypt).
BENCH := $(B)/bench-keyslot $(B)/bench-bare-stage $(B)/bench-unwrap $(B)/bench-place
$(B)/bench-keyslot: $(B)/obj/tests/bench/keyslot.o $(call lib,crypt volume common)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie -o $@ $^ $(LIBS_CRYPT) $(LIBS_COMMON)
$(B)/bench-bare-stage: $(B)/obj/tests/bench/bare_stage.o $(call lib,common)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie -o $@ $^ $(LIBS_CRYPT) $(LIBS_COMMON)
$(B)/bench-unwrap: $(B)/obj/tests/bench/unwrap.o $(call lib,keyd volume common)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie -o $@ $^ $(LIBS_COMMON)
$(B)/bench-place: $(B)/obj/tests/bench/place.o $(B)/obj/scheduler/place.o $(call lib,common)
	$(Q)$(CC) $(ALL_LDFLAGS) -pie -o $@ $^ $(LIBS_COMMON)

.PHONY: bench bench-run
bench: ## measure: interleaved ratios as a table (root); PART=rpc|volumes|keyslot|vault|place|scheduler|stage|memory|dmcrypt
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)tools/deps.sh fio
	+$(Q)$(MAKE) --no-print-directory PROFILE=release -j$(JOBS) bench-run
bench-run: $(BIN) $(BENCH)
	+$(Q)$(MAKE) --no-print-directory -s PROFILE=test $(BUILD)/test/coffer-scheduler
	$(Q)unshare -m --propagation private tests/bench/run.py $(BUILD) $(PART)
