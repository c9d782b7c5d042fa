/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h: structured lines on stderr, one write(2) each, as text
 *   I1123 14:05:09.123456 4711 stage.c:88] "volume staged" volume_id="fast.…" ms=12
 * or JSON. The message is a constant, data are typed fields:
 *   log_info("volume staged", KV("volume_id", id), KV("ms", ms));
 * (a bool as a variable: the literal `true` and comparisons are int in C11).
 * They are evaluated only when the line is written, so that nothing may depend on it. log_audit's
 * line is written at every level: who asked for a key is not for a flag to hide.
 * A `struct secret *` in KV() is a compile error. Text values are escaped and cut at 1024 bytes.
 * Thread-safe. Libraries don't log above debug; main, csi/dispatch.c, backends/pressure.c and
 * background loops do, once.
 */
#ifndef COFFER_COMMON_LOG_H
#define COFFER_COMMON_LOG_H

#include "common/base.h"
#include "common/error.h"
#include "common/secret.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_kv {
    const char *key;
    enum { LOG_KV_STR, LOG_KV_INT, LOG_KV_UINT, LOG_KV_BOOL } type;
    union {
        const char *s; /* NULL prints as "" */
        int64_t i;
        uint64_t u;
        bool b;
    } v;
};

void log_setup(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *file, int line, const char *msg,
               const struct log_kv *kv, size_t n);

/* The rows that every daemon's table of flags (common/flags.h) ends with, and what main does with
 * their values. ERR_INVALID when one is none of the choices. */
#define LOG_LEVEL_FLAG(target)                                                                  \
    {                                                                                           \
        "log-level", "COFFER_LOG_LEVEL", FLAG_STRING, (target), "info", "least important line", \
            "error|warn|info|debug"                                                             \
    }
#define LOG_FORMAT_FLAG(target)                                                                  \
    {                                                                                            \
        "log-format", "COFFER_LOG_FORMAT", FLAG_STRING, (target), "text", "shape of a log line", \
            "text|json"                                                                          \
    }
int log_setup_by_name(const char *level, const char *format, struct error *err) MUST_CHECK;

static inline struct log_kv log_kv_str(const char *k, const char *v)
{
    return (struct log_kv){ .key = k, .type = LOG_KV_STR, .v.s = v };
}
static inline struct log_kv log_kv_int(const char *k, int64_t v)
{
    return (struct log_kv){ .key = k, .type = LOG_KV_INT, .v.i = v };
}
static inline struct log_kv log_kv_uint(const char *k, uint64_t v)
{
    return (struct log_kv){ .key = k, .type = LOG_KV_UINT, .v.u = v };
}
static inline struct log_kv log_kv_bool(const char *k, bool v)
{
    return (struct log_kv){ .key = k, .type = LOG_KV_BOOL, .v.b = v };
}

#define KV(k, val) \
    _Generic((val),                       \
        char *: log_kv_str,               \
        const char *: log_kv_str,         \
        bool: log_kv_bool,                \
        int: log_kv_int,                  \
        long: log_kv_int,                 \
        long long: log_kv_int,            \
        unsigned char: log_kv_uint,       \
        unsigned short: log_kv_uint,      \
        unsigned int: log_kv_uint,        \
        unsigned long: log_kv_uint,       \
        unsigned long long: log_kv_uint)((k), (val))

#define LOG_ALWAYS(level, msg, ...)                                                  \
    do {                                                                             \
        const struct log_kv kv_[] = { { .key = NULL }, ##__VA_ARGS__ };              \
        log_write((level), __FILE__, __LINE__, (msg), kv_ + 1, ARRAY_SIZE(kv_) - 1); \
    } while (0)
#define LOG_AT(level, msg, ...)                      \
    do {                                             \
        if (log_enabled(level))                      \
            LOG_ALWAYS((level), msg, ##__VA_ARGS__); \
    } while (0)

#define log_error(msg, ...) LOG_AT(LOG_LEVEL_ERROR, msg, ##__VA_ARGS__)
#define log_warn(msg, ...)  LOG_AT(LOG_LEVEL_WARN, msg, ##__VA_ARGS__)
#define log_info(msg, ...)  LOG_AT(LOG_LEVEL_INFO, msg, ##__VA_ARGS__)
#define log_debug(msg, ...) LOG_AT(LOG_LEVEL_DEBUG, msg, ##__VA_ARGS__)
#define log_audit(...)      LOG_ALWAYS(LOG_LEVEL_INFO, "audit", ##__VA_ARGS__)

#endif
