/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strbuf.h: a growing text with a maximum it is born with. Always NUL-terminated once anything was
 * added. A write that would pass the maximum (or fails to allocate) sets `failed` and changes
 * nothing; later writes are then ignored, so a caller checks once, at the end. Not for keys: see
 * secret.h. For what may be a session or a token there is a wiped one: what it gives back, when it
 * grows too, is overwritten. Not thread-safe.
 */
#ifndef COFFER_COMMON_STRBUF_H
#define COFFER_COMMON_STRBUF_H

#include "common/base.h"
#include "common/error.h"

#include <stdarg.h>

struct strbuf {
    char *buf;  /* NULL while empty */
    size_t len; /* without the NUL */
    size_t cap;
    size_t max; /* most bytes, without the NUL */
    bool failed;
    bool no_memory; /* why it failed */
    bool wiped;     /* its memory is wipe.h's */
};

#define STRBUF_OF(maximum, is_wiped)                                                            \
    {                                                                                           \
        .buf = NULL, .len = 0, .cap = 0, .max = (maximum), .failed = false, .no_memory = false, \
        .wiped = (is_wiped)                                                                     \
    }
#define STRBUF_INIT(maximum)       STRBUF_OF(maximum, false)
#define STRBUF_WIPED_INIT(maximum) STRBUF_OF(maximum, true)

void strbuf_add(struct strbuf *sb, const void *data, size_t len);
void strbuf_adds(struct strbuf *sb, const char *text);
void strbuf_addf(struct strbuf *sb, const char *fmt, ...) PRINTF_LIKE(2, 3);
void strbuf_vaddf(struct strbuf *sb, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
void strbuf_clear(struct strbuf *sb); /* keeps the memory, forgets text and `failed` */
void strbuf_release(struct strbuf *sb);
const char *strbuf_text(const struct strbuf *sb); /* "" while empty; borrowed */
/* The caller frees (a wiped one's by wipe_free); never NULL unless failed or out of memory. */
char *strbuf_detach(struct strbuf *sb);
/* 0, or -1 with ERR_EXHAUSTED and "<what> is longer than N bytes", or error_memory's, when a write
 * was refused. */
int strbuf_check(const struct strbuf *sb, const char *what, struct error *err) MUST_CHECK;

#define AUTO_STRBUF __attribute__((cleanup(strbuf_release)))

/* Copies text into a fixed array; -1 (nothing written) when it doesn't fit. */
int str_copy(char *dst, size_t size, const char *src) MUST_CHECK;
/* *to: a copy, the caller frees; from NULL leaves it. */
int str_dup_opt(char **to, const char *from, struct error *err) MUST_CHECK;

#endif
