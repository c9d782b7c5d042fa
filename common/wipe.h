/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wipe.h: the allocator for memory of libraries that pass keys through their heap (libcurl,
 * jansson, libcrypto): every block is overwritten before it is given back, a grown one's old place
 * too. It is malloc(3) underneath, so free(3) takes such a block as well, without the wiping.
 * Thread-safe like malloc. wipe_buffer: a text that grows in such memory.
 */
#ifndef COFFER_COMMON_WIPE_H
#define COFFER_COMMON_WIPE_H

#include "common/base.h"
#include "common/error.h"

void *wipe_malloc(size_t size);
void *wipe_calloc(size_t n, size_t size);
void *wipe_realloc(void *p, size_t size);
char *wipe_strdup(const char *text);
void wipe_free(void *p);

/* Libraries call what they had no memory for something else (libcrypto: "no key"). wipe_lacked:
 * one of the above gave nothing in this thread since wipe_watch. */
void wipe_watch(void);
bool wipe_lacked(void);
bool wipe_ever_lacked(void); /* in any thread, since the program began */
/* It did, and what failed with that error may be a library's that has been broken since: of a
 * daemon a new process is worth more than this one then. */
bool wipe_explains(const struct error *err);

/* NUL-terminated once anything was added. */
struct wipe_buffer {
    char *bytes; /* NULL while empty */
    size_t len;  /* without the NUL */
};

#define WIPE_BUFFER_INIT        \
    {                           \
        .bytes = NULL, .len = 0 \
    }

/* -1 (nothing added): it would pass `max` bytes, or there is no memory. */
int wipe_buffer_add(struct wipe_buffer *b, const void *data, size_t len, size_t max) MUST_CHECK;
void wipe_buffer_release(struct wipe_buffer *b);

#define AUTO_WIPE_BUFFER __attribute__((cleanup(wipe_buffer_release)))

#endif
