# Coffer: `make help` lists the targets. Parts in mk/. V=1 shows commands; PROFILE=release|test|asan|tsan|leaky.
# SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := all
SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

include mk/flags.mk
include mk/gen.mk
include mk/build.mk
include mk/deps.mk
include mk/vault.mk
include mk/kubernetes.mk
include mk/test.mk
include mk/demo.mk
include mk/bench.mk
include mk/install.mk
include mk/deb.mk
include mk/image.mk
include mk/lint.mk
include mk/analyze.mk

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16
