/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_json.h: JSON objects to protobuf bytes and back by protobuf-c's descriptors, without
 * building protobuf-c's structs. The mapping is client.h's. Thread-safe.
 */
#ifndef COFFER_CSI_CLIENT_JSON_H
#define COFFER_CSI_CLIENT_JSON_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

/* Appends to sb. ERR_INVALID naming the field that is unknown or has the wrong type. */
int json_to_wire(const ProtobufCMessageDescriptor *desc, json_t *obj, struct strbuf *sb,
                 struct error *err) MUST_CHECK;
/* Unset fields are absent from the object; unknown ones are dropped. *ret: new reference. */
int wire_to_json(const ProtobufCMessageDescriptor *desc, const void *data, size_t len, json_t **ret,
                 struct error *err) MUST_CHECK;

#endif
