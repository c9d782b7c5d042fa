/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/strbuf.h"

#include "common/wipe.h"

#define FIRST_CAP 64

/* Room for `extra` more bytes and the NUL, or `failed`. */
static bool reserve(struct strbuf *sb, size_t extra)
{
    size_t need, cap;
    char *p;

    if (sb->failed)
        return false;
    if (extra > sb->max || sb->len > sb->max - extra || sb->max == SIZE_MAX) {
        sb->failed = true;
        return false;
    }
    need = sb->len + extra + 1;
    if (need <= sb->cap)
        return true;
    cap = sb->cap > 0 ? sb->cap : FIRST_CAP;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    if (cap > sb->max + 1)
        cap = sb->max + 1;
    p = sb->wiped ? wipe_realloc(sb->buf, cap) : realloc(sb->buf, cap);
    if (p == NULL) {
        sb->failed = sb->no_memory = true;
        return false;
    }
    sb->buf = p;
    sb->cap = cap;
    return true;
}

void strbuf_add(struct strbuf *sb, const void *data, size_t len)
{
    if (!reserve(sb, len))
        return;
    if (len > 0)
        memcpy(sb->buf + sb->len, data, len);
    sb->len += len;
    sb->buf[sb->len] = '\0';
}

void strbuf_adds(struct strbuf *sb, const char *text)
{
    strbuf_add(sb, text, strlen(text));
}

void strbuf_vaddf(struct strbuf *sb, const char *fmt, va_list args)
{
    va_list again;
    int n;

    va_copy(again, args);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0) {
        sb->failed = true;
        return;
    }
    if (!reserve(sb, (size_t)n))
        return;
    (void)vsnprintf(sb->buf + sb->len, (size_t)n + 1, fmt, args);
    sb->len += (size_t)n;
}

void strbuf_addf(struct strbuf *sb, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    strbuf_vaddf(sb, fmt, args);
    va_end(args);
}

void strbuf_clear(struct strbuf *sb)
{
    sb->len = 0;
    sb->failed = sb->no_memory = false;
    if (sb->buf != NULL)
        sb->buf[0] = '\0';
}

void strbuf_release(struct strbuf *sb)
{
    if (sb->wiped)
        wipe_free(sb->buf);
    else
        free(sb->buf);
    sb->buf = NULL;
    sb->len = 0;
    sb->cap = 0;
    sb->failed = sb->no_memory = false;
}

const char *strbuf_text(const struct strbuf *sb)
{
    return sb->buf != NULL ? sb->buf : "";
}

char *strbuf_detach(struct strbuf *sb)
{
    char *text = NULL;

    if (!sb->failed)
        text = sb->buf != NULL ? sb->buf : strdup("");
    if (text != NULL && text == sb->buf)
        sb->buf = NULL;
    strbuf_release(sb);
    return text;
}

int strbuf_check(const struct strbuf *sb, const char *what, struct error *err)
{
    if (!sb->failed)
        return 0;
    if (sb->no_memory)
        return error_memory(err);
    return error_set(err, ERR_EXHAUSTED, "%s is longer than %zu bytes", what, sb->max);
}

int str_copy(char *dst, size_t size, const char *src)
{
    size_t len = strlen(src);

    if (len >= size)
        return -1;
    memcpy(dst, src, len + 1);
    return 0;
}

int str_dup_opt(char **to, const char *from, struct error *err)
{
    if (from == NULL)
        return 0;
    char *copy = strdup(from);
    if (copy == NULL)
        return error_memory(err);
    *to = copy;
    return 0;
}
