/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/log.h"

#include "common/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#define VALUE_MAX 1024 /* bytes of one text value */
#define TAIL      32   /* kept free for the mark of a cut line and its end */

/* PIPE_BUF: a line on a pipe is then never mixed with another process's. */
struct line {
    char buf[PIPE_BUF];
    size_t len;
    bool full;
};

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic int current_format = LOG_FORMAT_TEXT;

static const struct {
    const char *name;
    char letter;
} levels[] = {
    [LOG_LEVEL_ERROR] = { "error", 'E' },
    [LOG_LEVEL_WARN] = { "warn", 'W' },
    [LOG_LEVEL_INFO] = { "info", 'I' },
    [LOG_LEVEL_DEBUG] = { "debug", 'D' },
};

static const char *const formats[] = { [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json" };

void log_setup(enum log_level level, enum log_format format)
{
    tzset(); /* gmtime_r opens the zone's file at first use, and a sandbox would kill for that */
    atomic_store(&current_level, (int)level);
    atomic_store(&current_format, (int)format);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load(&current_level);
}

static int level_parse(const char *text, enum log_level *ret)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(levels); i++)
        if (strcmp(levels[i].name, text) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    return -1;
}

static int format_parse(const char *text, enum log_format *ret)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(formats); i++)
        if (strcmp(formats[i], text) == 0) {
            *ret = (enum log_format)i;
            return 0;
        }
    return -1;
}

int log_setup_by_name(const char *level, const char *format, struct error *err)
{
    enum log_level l;
    enum log_format f;

    if (level_parse(level, &l) < 0)
        return error_set(err, ERR_INVALID, "log level '%s' is none of error, warn, info, debug",
                         level);
    if (format_parse(format, &f) < 0)
        return error_set(err, ERR_INVALID, "log format '%s' is neither text nor json", format);
    log_setup(l, f);
    return 0;
}

static void put(struct line *l, const char *data, size_t len)
{
    if (l->full || len > sizeof(l->buf) - TAIL - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->buf + l->len, data, len);
    l->len += len;
}

static PRINTF_LIKE(2, 3) void putf(struct line *l, const char *fmt, ...)
{
    char text[256];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n > 0)
        put(l, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* One character, as JSON writes it. What steers a terminal never reaches the reader raw. */
static void put_char(struct line *l, const char *p, size_t n)
{
    unsigned char c = (unsigned char)p[0];

    if (n == 0)
        put(l, "\\ufffd", 6);
    else if (c == '"' || c == '\\')
        putf(l, "\\%c", c);
    else if (c == '\n')
        put(l, "\\n", 2);
    else if (c < 0x20 || c == 0x7f)
        putf(l, "\\u%04x", c);
    else if (n == 2 && utf8_unsafe_len(p, n) > 0)
        putf(l, "\\u%04x", (unsigned char)p[1]);
    else if (n == 3 && utf8_unsafe_len(p, n) > 0)
        putf(l, "\\u%04x",
             0x2000 | ((unsigned char)p[1] & 0x3f) << 6 | ((unsigned char)p[2] & 0x3f));
    else
        put(l, p, n);
}

static void put_quoted(struct line *l, const char *text)
{
    size_t left = strlen(text), used = 0;

    put(l, "\"", 1);
    while (left > 0) {
        size_t n = utf8_char_len(text, left), step = n > 0 ? n : 1;

        if (used + step > VALUE_MAX) {
            put(l, "...", 3);
            break;
        }
        put_char(l, text, n);
        text += step;
        left -= step;
        used += step;
    }
    put(l, "\"", 1);
}

static void put_value(struct line *l, const struct log_kv *kv)
{
    switch (kv->type) {
    case LOG_KV_STR:
        put_quoted(l, kv->v.s != NULL ? kv->v.s : "");
        break;
    case LOG_KV_INT:
        putf(l, "%" PRId64, kv->v.i);
        break;
    case LOG_KV_UINT:
        putf(l, "%" PRIu64, kv->v.u);
        break;
    case LOG_KV_BOOL:
        putf(l, "%s", kv->v.b ? "true" : "false");
        break;
    }
}

/* A field that doesn't fit is left out whole, and those after it. */
static void put_field(struct line *l, bool json, const struct log_kv *kv)
{
    size_t before = l->len;

    putf(l, json ? ",\"%s\":" : " %s=", kv->key);
    put_value(l, kv);
    if (l->full)
        l->len = before;
}

static void put_end(struct line *l, bool json)
{
    bool cut = l->full;
    const char *text = json ? (cut ? ",\"cut\":true}\n" : "}\n") : (cut ? " cut=true\n" : "\n");
    size_t len = strlen(text);

    memcpy(l->buf + l->len, text, len);
    l->len += len;
}

/* UTC: lines of several machines can be compared. */
static void put_head(struct line *l, bool json, enum log_level level, const char *file, int n,
                     const char *msg)
{
    struct timespec ts = { 0 };
    struct tm tm = { 0 };
    const char *base = strrchr(file, '/');

    base = base != NULL ? base + 1 : file;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    if (json)
        putf(l,
             "{\"ts\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06ldZ\",\"level\":\"%s\",\"pid\":%d,"
             "\"caller\":\"%.40s:%d\",\"msg\":",
             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
             ts.tv_nsec / 1000, levels[level].name, (int)getpid(), base, n);
    else
        putf(l, "%c%02d%02d %02d:%02d:%02d.%06ld %d %.40s:%d] ", levels[level].letter,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, ts.tv_nsec / 1000,
             (int)getpid(), base, n);
    put_quoted(l, msg);
}

void log_write(enum log_level level, const char *file, int line, const char *msg,
               const struct log_kv *kv, size_t n)
{
    int saved = errno;
    bool json = atomic_load(&current_format) == LOG_FORMAT_JSON;
    struct line l;

    l.len = 0;
    l.full = false;
    put_head(&l, json, level, file, line, msg);
    for (size_t i = 0; i < n && !l.full; i++)
        put_field(&l, json, &kv[i]);
    put_end(&l, json);
    while (write(STDERR_FILENO, l.buf, l.len) < 0 && errno == EINTR)
        continue;
    errno = saved;
}
