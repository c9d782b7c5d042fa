# SPDX-License-Identifier: Apache-2.0
# `make analyze`: gcc -fanalyzer, clang-tidy (.clang-tidy says which checks) and cppcheck over the product's C. Each finding
# is mended, or answered by a line of tools/analyze-answers.txt. What a file gave is kept in build/analyze until it changes.
ANALYZE := $(BUILD)/analyze
ANALYZED := $(wildcard $(patsubst %,%/*.c,$(filter-out tests/%,$(FOLDERS))))
# the release's paths: without fault points
ANALYZE_FLAGS = -std=gnu11 $(CPPFLAGS) $(if $(filter common/error.c,$<),,-DCOFFER_ANALYZE)
# cppcheck takes no -isystem; the two macros are what it must know of jansson. readdir: each DIR here has one thread, which is
# all that POSIX asks, and readdir_r, which the check wants, is deprecated for what it does to long names.
CPPCHECK = cppcheck --quiet --std=c11 --platform=unix64 --library=gnu --library=posix --enable=warning,performance,portability \
  $(filter-out -isystem $(GEN),$(CPPFLAGS)) -D__x86_64__ -D'json_array_foreach(list,at,item)=while((item=json_array_get(list,at=1)))' \
  -D'json_object_foreach(object,key,item)=while((key=json_object_iter_key(object))&&(item=json_object_get(object,key)))' \
  --suppress=readdirCalled --template='{file}:{line}:{column}: {severity}: {message} [{id}]'

.PHONY: analyze analyze-run
analyze: ## gcc -fanalyzer, clang-tidy, cppcheck: every finding mended or answered (slow, see HACKING.md)
	$(Q)$(MAKE) --no-print-directory deps
	+$(Q)$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS)) analyze-run
analyze-run: $(ANALYZED:%.c=$(ANALYZE)/%.gcc) $(ANALYZED:%.c=$(ANALYZE)/%.tidy) $(ANALYZE)/cppcheck
	@tools/analyze.py $(ANALYZE) $(ANALYZED)

$(ANALYZE)/%.gcc: %.c mk/analyze.mk | $(GEN_H)
	@mkdir -p $(@D)
	$(Q)gcc $(ANALYZE_FLAGS) -O1 -fanalyzer -fdiagnostics-plain-output -MMD -MP -MT $@ -MT $(@:.gcc=.tidy) -MF $@.d \
	  -c $< -o /dev/null 2>$@ || { cat $@; exit 1; }
$(ANALYZE)/%.tidy: %.c .clang-tidy mk/analyze.mk | $(GEN_H)
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(ANALYZE_FLAGS) >$@ 2>/dev/null || { cat $@; exit 1; }
$(ANALYZE)/cppcheck: $(ANALYZED) $(wildcard $(patsubst %,%/*.h,$(FOLDERS))) mk/analyze.mk
	@mkdir -p $(@D)
	$(Q){ $(CPPCHECK) -DCOFFER_ANALYZE $(filter-out common/error.c,$(ANALYZED)) && $(CPPCHECK) common/error.c; } 2>$@ || { cat $@; exit 1; }
-include $(wildcard $(ANALYZED:%.c=$(ANALYZE)/%.gcc.d))
