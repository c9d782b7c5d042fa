/* SPDX-License-Identifier: Apache-2.0 */
/*
 * csi/client.h: unary calls with JSON in and out, by protobuf-c's descriptors (proto3 JSON mapping:
 * lowerCamelCase or proto names in, proto names out; 64-bit numbers accepted as number or string,
 * written as numbers (over 2^63 - 1 as a string); enums by name or number; maps as objects; unset
 * fields are left out). Used by cofferctl, coffer-scheduler and csi-call; blocking. A request's
 * bytes are wiped when the call has ended; still, no request carries a key.
 */
#ifndef COFFER_CSI_CLIENT_H
#define COFFER_CSI_CLIENT_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

#include <jansson.h>

/* What the first call does anyway; for a program with threads, before there are any. */
void csi_client_init(void);

/* method: "csi.v1.Controller/CreateVolume" or just "CreateVolume" where unique;
 * "coffer.v1.NodeAdmin/UnlockKey". request: an object, or NULL for an empty message. timeout_ms 0:
 * none. A gRPC error becomes err->code with the server's text. *ret: new reference. */
int csi_client_call(const char *endpoint, const char *method, json_t *request, uint64_t timeout_ms,
                    json_t **ret, struct error *err) MUST_CHECK;

/* Whether the method exists and the request fits it, without calling: ERR_INVALID is the caller's,
 * not the server's. */
int csi_client_check(const char *method, json_t *request, struct error *err) MUST_CHECK;

/* csi_client_call over one kept connection. Opening doesn't connect yet. Any number of threads may
 * call. */
struct csi_client;
int csi_client_open(const char *endpoint, struct csi_client **ret, struct error *err) MUST_CHECK;
int csi_client_request(struct csi_client *c, const char *method, json_t *request,
                       uint64_t timeout_ms, json_t **ret, struct error *err) MUST_CHECK;
void csi_client_free(struct csi_client *c); /* no call may be running; NULL is fine */

DEFINE_AUTO(csi_client, csi_client_free)
#define AUTO_CSI_CLIENT __attribute__((cleanup(cleanup_csi_client)))

#endif
