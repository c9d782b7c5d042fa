# SPDX-License-Identifier: Apache-2.0
# The real Kubernetes that the tests use, from pinned Go modules (e2e/kubernetes/). Built once, into ~/.cache/coffer-kubernetes.
.PHONY: kubernetes-components
kubernetes-components: ## build Kubernetes for the tests (10 minutes, once)
	$(Q)e2e/kubernetes/build.sh
