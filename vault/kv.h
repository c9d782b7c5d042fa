/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/kv.h: storage keys in the KV engine, version 2, as values. A secret holds the key and the
 * context it was made for: the engine itself binds nothing. Pure; what a builder returns is the
 * caller's, NULL: out of memory.
 */
#ifndef COFFER_VAULT_KV_H
#define COFFER_VAULT_KV_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"

#include <jansson.h>

#define KV_KEY_BYTES     32u
#define KV_CONTEXT_BYTES 32u

/* POST <mount>/data/<path>, only where nothing is yet (cas 0). */
json_t *kv_create_body(const struct secret *key, const unsigned char context[KV_CONTEXT_BYTES]);
/* The answer to it: ERR_UNAVAILABLE unless it says that there is a first version now;
 * ERR_PRECONDITION: the engine is set to remove it at a date. */
int kv_created(const json_t *body, struct error *err) MUST_CHECK;
/* The answer to GET <mount>/metadata/<path>: 0 when it has its first version, and that one wasn't
 * removed and won't be. ERR_PRECONDITION says what is wrong with it; ERR_UNAVAILABLE: that is no
 * answer of a KV engine. */
int kv_intact(const json_t *body, struct error *err) MUST_CHECK;
/* The answer to GET <mount>/data/<path>. *ret: KV_KEY_BYTES bytes, the caller frees.
 * ERR_PRECONDITION: it was made for another context, or is no key; ERR_UNAVAILABLE: that is no
 * answer of a KV engine. */
int kv_key(const json_t *body, const unsigned char context[KV_CONTEXT_BYTES], struct secret **ret,
           struct error *err) MUST_CHECK;

#endif
