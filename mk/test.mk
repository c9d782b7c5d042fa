# Unit tests: tests/unit/F/test_X.c is one cmocka program linked with folder F's archive and what F may use.
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT := $(patsubst %.c,$(B)/%,$(UNIT_SRC))
USES_common := common
USES_volume := volume common
USES_backends := backends volume common
USES_csi := csi common
USES_keyd := keyd volume common
USES_crypt := crypt volume common
USES_controller := controller keyd crypt backends volume common
USES_node := node keyd crypt backends volume common
USES_cofferctl := cofferctl csi keyd crypt backends volume common
SYSLIBS_csi = $(LIBS_GRPC)
SYSLIBS_cofferctl = $(LIBS_GRPC)
SYSLIBS_keyd = $(LIBS_KEYD)
SYSLIBS_crypt = $(LIBS_CRYPT)
define UNIT_RULE
$(B)/tests/unit/$(1)/%: $(B)/obj/tests/unit/$(1)/%.o $(call lib,$(USES_$(1)) tests/support)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -pie -o $$@ $$< $(call lib,tests/support $(USES_$(1))) $$(SYSLIBS_$(1)) $$(LIBS_COMMON) $$(LIBS_TEST)
endef
$(foreach f,common volume backends csi keyd crypt controller node cofferctl,$(eval $(call UNIT_RULE,$(f))))
.SECONDARY:

.PHONY: unit
unit: $(UNIT) ## build and run the unit tests
	$(Q)tests/run.py $(UNIT)
