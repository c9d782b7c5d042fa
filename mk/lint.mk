# SPDX-License-Identifier: Apache-2.0
# `make lint`: every check runs, each finding is one sentence, the last line sums up. Each check alone: make lint-NAME.
LINT_CHECKS := includes sizes text scripts headers symbols man clang format
HEADERS = $(shell git ls-files --cached --others --exclude-standard '*.h')

.PHONY: lint $(LINT_CHECKS:%=lint-%)
lint: ## all static checks
	+@failed=; for check in $(LINT_CHECKS); do \
	  echo "== $$check"; $(MAKE) --no-print-directory -s lint-$$check || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then echo "lint: failed:$$failed"; exit 1; fi; \
	echo "lint: $(words $(LINT_CHECKS)) checks, no finding"

lint-includes:
	@tools/lint-includes.py
lint-sizes:
	@tools/lint-sizes.py
lint-text:
	@tools/lint-text.py
lint-scripts:
	@tools/lint-scripts.sh
lint-format:
	@tools/lint-format.sh
lint-headers: $(GEN_H) # each compiles alone
	@failed=0; for header in $(HEADERS); do \
	  $(CC) $(CPPFLAGS) $(filter-out -Werror,$(ALL_CFLAGS)) -Werror -fsyntax-only -include $$header -x c /dev/null || \
	    { echo "$$header does not compile alone."; failed=1; }; \
	done; exit $$failed
lint-symbols:
	+@$(MAKE) --no-print-directory -s PROFILE=release -j$(JOBS) all >/dev/null
	@tools/lint-symbols.py $(BUILD)/release
lint-man: # manual pages and completion against --help
	+@$(MAKE) --no-print-directory -s PROFILE=release -j$(JOBS) all >/dev/null
	@tools/lint-man.py $(BUILD)/release
lint-clang: # the second compiler, warnings as errors, everything that is compiled
	+@$(MAKE) --no-print-directory -s BUILD=$(BUILD)/clang PROFILE=test CC=clang -j$(JOBS) lint-clang-objects >/dev/null
.PHONY: lint-clang-objects
lint-clang-objects: $(BIN) $(patsubst %.c,$(B)/obj/%.o,$(UNIT_SRC) $(wildcard tests/fuzz/*.c tests/support/*.c))
