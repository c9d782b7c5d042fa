/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume/context.h: what a wrapped key is bound to. SHA-256 over the tuple ("coffer/v1", "volume",
 * tenant, volume id, volume uuid), each element as its length in 4 bytes big-endian and then its
 * bytes: no two different tuples give the same input. Not secret. Pure.
 */
#ifndef COFFER_VOLUME_CONTEXT_H
#define COFFER_VOLUME_CONTEXT_H

#include "common/base.h"

#define CONTEXT_SIZE 32u

struct context_element { /* borrowed */
    const void *data;
    size_t len;
};

/* The same over any tuple. */
void context_hash(const struct context_element *elements, size_t n,
                  unsigned char ret[CONTEXT_SIZE]);
void context_compute(const char *tenant, const char *volume_id, const char *uuid,
                     unsigned char ret[CONTEXT_SIZE]);

/* HPKE's info for a recipient of the volume: "coffer/v1 recipient", then the context. */
#define CONTEXT_RECIPIENT_SIZE (19u + CONTEXT_SIZE)
void context_recipient(const unsigned char context[CONTEXT_SIZE],
                       unsigned char ret[CONTEXT_RECIPIENT_SIZE]);

#endif
