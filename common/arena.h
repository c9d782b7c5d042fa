/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h: the memory of one request. Grows by blocks up to a limit; nothing is freed alone; reset
 * wipes every byte that was handed out (CSI requests carry `csi_secret` maps).
 * One thread at a time.
 */
#ifndef COFFER_COMMON_ARENA_H
#define COFFER_COMMON_ARENA_H

#include "common/base.h"
#include "common/cleanup.h"

struct arena;

struct arena *arena_new(size_t limit);           /* NULL when out of memory */
void *arena_alloc(struct arena *a, size_t size); /* 16-byte aligned, zeroed; NULL over the limit */
char *arena_strdup(struct arena *a, const char *text);
char *arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
void arena_reset(struct arena *a); /* wipes; keeps one small block for the next request */
void arena_free(struct arena *a);  /* wipes; NULL is fine */

DEFINE_AUTO(arena, arena_free)
#define AUTO_ARENA __attribute__((cleanup(cleanup_arena)))

#endif
