# SPDX-License-Identifier: Apache-2.0
# Debian's package, by debian/ and debhelper, from what git has here; lintian's errors and warnings end it.
# `coffer` and its debug symbols lie in build/deb/ afterwards. SOURCE_DATE_EPOCH is the changelog's.
DEPS_DEB := dpkg-dev debhelper lintian fakeroot

.PHONY: deb
deb: ## build Debian's package build/deb/coffer_VERSION_amd64.deb, and let lintian judge it
	$(Q)tools/deps.sh $(DEPS_BUILD) $(DEPS_DEB)
	$(Q)tools/deb.sh $(BUILD)/deb
