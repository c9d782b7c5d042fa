/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch.h: the table of methods, and what happens to one request between its bytes and its reply
 * message. Knows protobuf, not gRPC: call.c carries bytes in and out, and the fuzzer comes in here.
 * Thread-safe; everything made for a request lives in its arena.
 */
#ifndef COFFER_CSI_DISPATCH_H
#define COFFER_CSI_DISPATCH_H

#include "common/arena.h"
#include "common/base.h"
#include "common/error.h"
#include "csi/api.h"
#include "csi/codec.h"

struct method {
    const char *path;                          /* "/csi.v1.Controller/CreateVolume" */
    const ProtobufCMessageDescriptor *request; /* NULL: a method that no service of ours has */
    size_t table;         /* offset of the ops table's pointer in struct csi_service */
    size_t op;            /* offset of the op in that table */
    bool on_poller;       /* doesn't block: answered by the poller itself */
    codec_decode *decode; /* NULL: the request carries nothing */
    codec_run *run;       /* NULL: not supported by this version */
};

#define METHODS_MAX 40
extern const struct method csi_methods[];
extern const size_t csi_methods_len;

/* The service has an op for it; everything else is UNIMPLEMENTED. */
bool method_offered(const struct method *m, const struct csi_service *s);

struct request {
    const ProtobufCMessage *message;
    const void *decoded;
    const char *volume_id, *name; /* for the log; NULL when the request has none */
};

/* Validates the bytes, unpacks and decodes them. `data` must live as long as the request. */
int dispatch_decode(const struct method *m, struct arena *a, const void *data, size_t len,
                    struct request *ret, struct error *err) MUST_CHECK;

/* One line for one call. reply may be NULL. */
void dispatch_log(const char *path, const struct request *r, const ProtobufCMessage *reply,
                  const struct error *err, bool quiet, uint64_t ms, const struct phases *phases);

#endif
