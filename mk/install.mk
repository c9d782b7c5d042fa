# SPDX-License-Identifier: Apache-2.0
# `make install DESTDIR= PREFIX=/usr` and `make uninstall`. INSTALL_FILES is all that either of them touches: rows
# "mode:source:target"; a source that ends in .in gets @SBINDIR@ and @LIBEXECDIR@ filled in. Configuration, keys and
# volumes (/etc/coffer, /var/lib/coffer) are the administrator's: neither installed nor removed.
PREFIX ?= /usr
DESTDIR ?=
SBINDIR := $(PREFIX)/sbin
BINDIR := $(PREFIX)/bin
LIBEXECDIR := $(PREFIX)/libexec/coffer
DATADIR := $(PREFIX)/share
LIBDIR := $(PREFIX)/lib
MAN := $(notdir $(wildcard dist/man/*.[0-9]))

INSTALL_FILES := \
  755:$(B)/coffer-controller:$(SBINDIR)/coffer-controller \
  755:$(B)/coffer-node:$(SBINDIR)/coffer-node \
  755:$(B)/coffer-keyd:$(SBINDIR)/coffer-keyd \
  755:$(B)/cofferctl:$(BINDIR)/cofferctl \
  755:$(B)/coffer-crypt:$(LIBEXECDIR)/coffer-crypt \
  755:$(B)/coffer-launch:$(SBINDIR)/coffer-launch \
  755:$(B)/coffer-scheduler:$(SBINDIR)/coffer-scheduler \
  $(foreach s,keyd controller node launch vms scheduler scheduler-keyd,644:dist/systemd/coffer-$(s).service.in:$(LIBDIR)/systemd/system/coffer-$(s).service) \
  644:dist/systemd/sysusers.conf:$(LIBDIR)/sysusers.d/coffer.conf \
  644:dist/systemd/tmpfiles.conf:$(LIBDIR)/tmpfiles.d/coffer.conf \
  $(foreach m,$(MAN),644:dist/man/$(m):$(DATADIR)/man/man$(patsubst .%,%,$(suffix $(m)))/$(m)) \
  644:dist/completion/cofferctl:$(DATADIR)/bash-completion/completions/cofferctl \
  $(foreach p,$(wildcard deploy/vault/*.hcl),644:$(p):$(DATADIR)/coffer/vault/$(notdir $(p))) \
  $(foreach p,$(wildcard web/*.html web/*.mjs web/*.css web/*.svg),644:$(p):$(DATADIR)/coffer/web/$(notdir $(p))) \
  $(foreach m,$(wildcard vm/*.mjs),644:$(m):$(DATADIR)/coffer/vm/$(notdir $(m))) \
  $(foreach n,$(wildcard dist/nginx/*.conf),644:$(n):$(DATADIR)/coffer/nginx/$(notdir $(n))) \
  644:dist/launch.json:$(DATADIR)/doc/coffer/launch.json \
  644:dist/scheduler.json:$(DATADIR)/doc/coffer/scheduler.json \
  644:dist/systemd/coffer-keyd-vault.conf:$(DATADIR)/doc/coffer/coffer-keyd-vault.conf \
  644:docs/vault.md:$(DATADIR)/doc/coffer/vault.md \
  644:dist/config.json:$(DATADIR)/doc/coffer/config.json \
  644:README.md:$(DATADIR)/doc/coffer/README.md \
  644:SECURITY.md:$(DATADIR)/doc/coffer/SECURITY.md \
  644:LICENSE:$(DATADIR)/doc/coffer/LICENSE
# folders that nobody else uses
INSTALL_FOLDERS := $(LIBEXECDIR) $(DATADIR)/coffer/vault $(DATADIR)/coffer/web $(DATADIR)/coffer/vm $(DATADIR)/coffer/nginx $(DATADIR)/coffer $(DATADIR)/doc/coffer

.PHONY: install uninstall
install: all ## install into DESTDIR with PREFIX (/usr)
	$(Q)tools/install.sh install "$(DESTDIR)" "$(SBINDIR)" "$(LIBEXECDIR)" $(INSTALL_FILES)
uninstall: ## remove what install put there; configuration, keys and volumes stay
	$(Q)tools/install.sh uninstall "$(DESTDIR)" $(INSTALL_FILES) -- $(INSTALL_FOLDERS)
