# SPDX-License-Identifier: Apache-2.0
# protobuf-c code, made in the build folder, never committed.
PROTOS := $(wildcard csi/proto/*.proto csi/proto/google/protobuf/*.proto)
GEN_C := $(patsubst csi/proto/%.proto,$(GEN)/%.pb-c.c,$(PROTOS))
GEN_H := $(GEN_C:.c=.h)
$(GEN)/%.pb-c.c $(GEN)/%.pb-c.h &: csi/proto/%.proto
	@mkdir -p $(GEN)
	$(Q)protoc-c --proto_path=csi/proto --c_out=$(GEN) $<
.PHONY: gen
gen: $(GEN_H) ## generate the protobuf code into build/gen
