# SPDX-License-Identifier: Apache-2.0
# The main job on real input, with the release programs, where real dm-crypt is. Keys are in the Vault that VAULT_ADDR
# names (with VAULT_TOKEN, VAULT_CACERT), else in the test server when it is built, else in a master key in a file.
.PHONY: demo demo-vault
demo: ## build, then take this checkout through an encrypted volume's whole life (root)
	$(Q)$(MAKE) --no-print-directory deps
	$(Q)$(MAKE) --no-print-directory PROFILE=release all
	$(Q)e2e/run-demo $(BUILD)/release
demo-vault: ## the same with keys in a real Vault, which is built first (Go; 5 minutes, once)
	$(Q)e2e/vault/build.sh $(VAULT) >/dev/null
	$(Q)$(MAKE) --no-print-directory demo
