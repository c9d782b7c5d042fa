/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate.h: what a request's bytes must look like before protobuf-c unpacks them, by the
 * message's descriptor and a small table of exceptions (CSI spec 1.12, "Size Limits" and "Field
 * Requirements"): string fields at most 128 bytes, paths 4095, node_id 256, public_key
 * and wrapped (ours) 1024; a map's keys and values, and a message's mount_flags, at most 4096
 * together, new_secrets (ours) 8192; no NUL, valid UTF-8, no control
 * characters in names; nesting, number of fields and of unknown fields bounded, so that unpacking
 * can't grow a small message into a lot of memory. Pure; thread-safe.
 */
#ifndef COFFER_CSI_VALIDATE_H
#define COFFER_CSI_VALIDATE_H

#include "common/base.h"
#include "common/error.h"

#include <protobuf-c/protobuf-c.h>

#define VALIDATE_STRING_MAX  128u
#define VALIDATE_PATH_MAX    4095u /* PATH_MAX without the NUL */
#define VALIDATE_NODE_ID_MAX 256u
#define VALIDATE_KEY_MAX     1024u /* base64 of an RSA key of 4096 bits has 736 */
#define VALIDATE_TOTAL_MAX   4096u /* a map, or mount_flags */
#define VALIDATE_NEW_SECRETS_MAX \
    8192u /* a map that has a wrapped key for each of 16 recipients; each value as in any map */
#define VALIDATE_PUBLISH_SECRETS_MAX \
    12288u /* NodePublish's: these, what lends the key, and the pod's token (volume/inline.h) */
#define VALIDATE_DEPTH_MAX   8u
#define VALIDATE_FIELDS_MAX  20000u
#define VALIDATE_UNKNOWN_MAX 64u

/* ERR_INVALID naming the field. */
int validate_wire(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
                  struct error *err) MUST_CHECK;

/* A map<string, string> entry (protobuf-c forgets the option): exactly key = 1 and value = 2, both
 * strings. */
bool descriptor_is_map_entry(const ProtobufCMessageDescriptor *desc);

#endif
