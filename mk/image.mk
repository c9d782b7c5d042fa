# SPDX-License-Identifier: Apache-2.0
# The OCI image (deploy/image/): IMAGE/coffer.tar, its bill of materials, its digest. Its time is the commit's.
IMAGE ?= $(BUILD)/image
# what `make install` would put there, without what only a host needs
IMAGE_ROWS = $(filter 755:% %.hcl,$(INSTALL_FILES)) 644:LICENSE:$(DATADIR)/doc/coffer/copyright
IMAGE_EPOCH = $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct),$(error no git here: set SOURCE_DATE_EPOCH))
IMAGE_REVISION = $(or $(REVISION),$(shell git rev-parse HEAD)$(if $(shell git status --porcelain --untracked-files=no),-dirty))

.PHONY: image
image: all ## build the OCI image build/image/coffer.tar, coffer:VERSION (no daemon, no registry), and its SBOM
	$(Q)deploy/image/build.py --version $(VERSION) --epoch $(IMAGE_EPOCH) --revision $(IMAGE_REVISION) --output $(IMAGE) $(IMAGE_ROWS)
