# SPDX-License-Identifier: Apache-2.0
# The main job on real input, with the release programs, where real dm-crypt is.
.PHONY: demo
demo: ## build, then take this checkout through an encrypted volume's whole life (root)
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)$(MAKE) --no-print-directory PROFILE=release all
	$(Q)COFFER_BIN=$(abspath $(BUILD)/release) e2e/vm/vm-or-native --disk-size 4G --timeout 900 \
	  -e COFFER_BIN python3 -B e2e/demo.py
