/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi/client.h: one unary call with JSON in and out, by protobuf-c's descriptors (proto3 JSON mapping:
 * lowerCamelCase or proto names in, proto names out; 64-bit numbers accepted as number or string, written as
 * numbers; enums by name or number; maps as objects). Used by cofferctl and csi-call; blocking.
 */
#ifndef COFFER_CSI_CLIENT_H
#define COFFER_CSI_CLIENT_H

#include "common/base.h"
#include "common/error.h"

#include <jansson.h>

/* method: "csi.v1.Controller/CreateVolume" or just "CreateVolume" where unique. A gRPC error becomes
 * err->code with the server's text. *ret: new reference. */
int csi_client_call(const char *endpoint, const char *method, json_t *request, uint64_t timeout_ms,
                    json_t **ret, struct error *err) MUST_CHECK;

#endif
