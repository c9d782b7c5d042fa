# SPDX-License-Identifier: Apache-2.0
# The real Vault that the tests talk to, from pinned Go modules (e2e/vault/). Built once, into ~/.cache/coffer-vault.
VAULT ?= 1.21.2

.PHONY: vault-server
vault-server: ## build the Vault test server (5 minutes, once); VAULT=1.13.0 for the second version
	$(Q)e2e/vault/build.sh $(VAULT)
