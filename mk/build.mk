# SPDX-License-Identifier: Apache-2.0
# One archive per folder (all but main.c), one program per row.
FOLDERS := common volume recipient backends csi http vault keyd crypt controller node device launch scheduler cofferctl tests/support
objs = $(patsubst %.c,$(B)/obj/%.o,$(filter-out %/main.c %/csi_call.c %/csi_fake.c %/driver_call.c,$(wildcard $(1)/*.c)))
define FOLDER_RULE
$(B)/lib/$(subst /,_,$(1)).a: $(call objs,$(1))
endef
$(foreach f,$(FOLDERS),$(eval $(call FOLDER_RULE,$(f))))
lib = $(foreach f,$(1),$(B)/lib/$(subst /,_,$(f)).a)

$(B)/lib/%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $(filter %.o,$^)
$(B)/lib/csi.a: $(patsubst $(GEN)/%.c,$(B)/obj/gen/%.o,$(GEN_C))

$(B)/obj/%.o: %.c mk/flags.mk
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC      $<")
	$(Q)$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@
$(B)/obj/gen/%.o: $(GEN)/%.c mk/flags.mk
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 -w $(CFLAGS_$(PROFILE)) -MMD -MP -c $< -o $@
# a pattern rule without a recipe would be no rule at all: these are named one by one
$(patsubst %.c,$(B)/obj/%.o,$(wildcard csi/*.c tests/support/*.c tests/unit/csi/*.c tests/fuzz/*.c)) \
  $(patsubst $(GEN)/%.c,$(B)/obj/gen/%.o,$(GEN_C)): | $(GEN_H)
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

# program: folder of its main.c, archives, libraries, link mode
PROGRAMS := coffer-controller coffer-node coffer-keyd coffer-crypt coffer-launch coffer-scheduler cofferctl csi-call
BIN := $(addprefix $(B)/,$(PROGRAMS))
MAIN_coffer-controller := controller/main
LIBS_coffer-controller := $(call lib,controller csi keyd crypt backends volume common)
SYS_coffer-controller = $(LIBS_GRPC) $(LIBS_COMMON)
LINK_coffer-controller := $(if $(STATIC),-static-pie,-pie)
MAIN_coffer-node := node/main
LIBS_coffer-node := $(call lib,node csi keyd crypt backends volume common)
SYS_coffer-node = $(LIBS_GRPC) $(LIBS_COMMON)
LINK_coffer-node := $(LINK_coffer-controller)
MAIN_coffer-keyd := keyd/main
LIBS_coffer-keyd := $(call lib,keyd vault http recipient volume common)
SYS_coffer-keyd = $(LIBS_KEYD) $(LIBS_COMMON)
LINK_coffer-keyd := -pie
MAIN_coffer-crypt := crypt/main
LIBS_coffer-crypt := $(call lib,crypt recipient volume common)
SYS_coffer-crypt = $(LIBS_CRYPT) $(LIBS_COMMON)
LINK_coffer-crypt := -pie
MAIN_coffer-launch := launch/main
LIBS_coffer-launch := $(call lib,launch common)
SYS_coffer-launch = $(LIBS_LAUNCH) $(LIBS_COMMON)
LINK_coffer-launch := -pie
MAIN_coffer-scheduler := scheduler/main
LIBS_coffer-scheduler := $(call lib,scheduler csi keyd http recipient volume common)
SYS_coffer-scheduler = $(LIBS_SCHEDULER) $(LIBS_COMMON)
LINK_coffer-scheduler := -pie
$(B)/obj/scheduler/openapi.o: scheduler/openapi.json
MAIN_cofferctl := cofferctl/main
LIBS_cofferctl := $(call lib,cofferctl device csi keyd crypt vault http recipient backends volume common)
SYS_cofferctl = $(LIBS_CTL) $(LIBS_COMMON)
LINK_cofferctl := -pie
MAIN_csi-call := tests/support/csi_call
LIBS_csi-call := $(call lib,csi common)
SYS_csi-call = $(LIBS_GRPC) $(LIBS_COMMON)
LINK_csi-call := $(LINK_coffer-controller)
# only tests use it, so `all` doesn't build it
TEST_PROGRAMS := csi-fake driver-call
MAIN_csi-fake := tests/support/csi_fake
LIBS_csi-fake := $(call lib,csi common)
SYS_csi-fake = $(LIBS_GRPC) $(LIBS_COMMON)
LINK_csi-fake := $(LINK_coffer-controller)
MAIN_driver-call := tests/support/driver_call
LIBS_driver-call := $(call lib,scheduler csi keyd http recipient volume common)
SYS_driver-call = $(LIBS_SCHEDULER) $(LIBS_COMMON)
LINK_driver-call := -pie

define PROGRAM_RULE
$(B)/$(1): $(B)/obj/$(MAIN_$(1)).o $(LIBS_$(1))
	$$(if $$(Q),@echo "  LINK    $$@")
	$$(Q)$$(CC) $$(ALL_LDFLAGS) $(LINK_$(1)) -Wl,-Map=$$@.map -o $$@ $$^ $$(SYS_$(1))
endef
$(foreach p,$(PROGRAMS) $(TEST_PROGRAMS),$(eval $(call PROGRAM_RULE,$(p))))

.PHONY: all clean
all: $(BIN) ## build the programs of PROFILE (default release) into build/PROFILE
clean: ## remove the build folder
	rm -rf $(BUILD)
