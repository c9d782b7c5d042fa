/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret.h: bytes that must never be seen. Fixed capacity from birth, in pages of its own: mlocked
 * (best effort), MADV_DONTDUMP, MADV_WIPEONFORK, guard page behind; wiped on free. It can't grow,
 * can't be printed (KV() of log.h refuses it at compile time) and is compared in constant time.
 * Owner: whoever called secret_new. Not thread-safe.
 */
#ifndef COFFER_COMMON_SECRET_H
#define COFFER_COMMON_SECRET_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"

struct secret; /* opaque on purpose */

/* An empty secret with room for `capacity` bytes (1..65536), or NULL with ERR_EXHAUSTED. */
struct secret *secret_new(size_t capacity, struct error *err) MUST_CHECK;
void secret_free(struct secret *s); /* NULL is fine; wipes first */

unsigned char *secret_bytes(struct secret *s); /* the room itself, to fill in place */
const unsigned char *secret_data(const struct secret *s);
size_t secret_len(const struct secret *s);
size_t secret_capacity(const struct secret *s);
void secret_set_len(struct secret *s, size_t len); /* len <= capacity, else abort: our bug */
/* Constant time for equal lengths. */
bool secret_equal(const struct secret *a, const struct secret *b);
int secret_random(struct secret *s, size_t len, struct error *err) MUST_CHECK; /* getrandom(2) */
/* Fills dst with the 2*len lower-case hex digits of src, no NUL. */
int secret_hex(struct secret *dst, const struct secret *src, struct error *err) MUST_CHECK;

DEFINE_AUTO(secret, secret_free)
#define AUTO_SECRET __attribute__((cleanup(cleanup_secret)))

/* For a process that touches keys: RLIMIT_CORE 0, PR_SET_DUMPABLE 0. First thing in main. */
int secret_harden_process(struct error *err) MUST_CHECK;

#endif
