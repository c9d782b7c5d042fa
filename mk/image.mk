# SPDX-License-Identifier: Apache-2.0
# The OCI image (deploy/image/): IMAGE/coffer.tar, its bill of materials, its digest. Its time is the commit's.
# An image of programs with fault points says so, and never lies where a release's does.
IMAGE ?= $(BUILD)/image$(if $(filter-out release,$(PROFILE)),-$(PROFILE))
# what `make install` would put there, without what only a host needs
IMAGE_ROWS = $(filter 755:% %.hcl,$(INSTALL_FILES)) 644:LICENSE:$(DATADIR)/doc/coffer/copyright
GIT_HERE := git -c safe.directory=$(CURDIR)
IMAGE_EPOCH = $(or $(SOURCE_DATE_EPOCH),$(shell $(GIT_HERE) log -1 --format=%ct),$(error no commit here: set SOURCE_DATE_EPOCH))
IMAGE_REVISION = $(or $(REVISION),$(strip $(shell $(GIT_HERE) rev-parse HEAD)$(if \
  $(shell $(GIT_HERE) status --porcelain --untracked-files=no),-dirty)),unknown)

.PHONY: image
image: all ## build the OCI image build/image/coffer.tar, coffer:VERSION (no daemon, no registry), and its SBOM
	$(Q)deploy/image/build.py --version $(VERSION) --epoch $(IMAGE_EPOCH) --revision $(IMAGE_REVISION) --profile $(PROFILE) \
	  --output $(IMAGE) $(IMAGE_ROWS)
