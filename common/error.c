/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/error.h"

#include "common/parse.h"

#include <errno.h>
#include <stdarg.h>

#define CUT_MARK "..."

static const char *const code_names[ERR_CODE_COUNT] = {
    [ERR_OK] = "OK",
    [ERR_CANCELED] = "CANCELLED",
    [ERR_INVALID] = "INVALID_ARGUMENT",
    [ERR_DEADLINE] = "DEADLINE_EXCEEDED",
    [ERR_NOT_FOUND] = "NOT_FOUND",
    [ERR_EXISTS] = "ALREADY_EXISTS",
    [ERR_PERMISSION] = "PERMISSION_DENIED",
    [ERR_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [ERR_PRECONDITION] = "FAILED_PRECONDITION",
    [ERR_ABORTED] = "ABORTED",
    [ERR_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [ERR_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [ERR_INTERNAL] = "INTERNAL",
    [ERR_UNAVAILABLE] = "UNAVAILABLE",
    [ERR_DATA_LOSS] = "DATA_LOSS",
    [ERR_UNAUTHENTICATED] = "UNAUTHENTICATED",
};

static const struct {
    int sys_errno;
    enum error_code code;
} errno_codes[] = {
    { ENOSPC, ERR_EXHAUSTED }, { EDQUOT, ERR_EXHAUSTED }, { ENOMEM, ERR_EXHAUSTED },
    { EMFILE, ERR_EXHAUSTED }, { ENFILE, ERR_EXHAUSTED }, { EACCES, ERR_PERMISSION },
    { EPERM, ERR_PERMISSION }, { ENOENT, ERR_NOT_FOUND }, { EBUSY, ERR_ABORTED },
};

static void mark_cut(char *msg, size_t size)
{
    size_t at = size - sizeof(CUT_MARK);

    while (at > 0 && ((unsigned char)msg[at] & 0xc0) == 0x80) /* not inside a character */
        at--;
    memcpy(msg + at, CUT_MARK, sizeof(CUT_MARK));
}

/* Appends to a text of length `len` in a field of `size`: the new length, `size` when cut. */
static PRINTF_LIKE(4, 0) size_t
    append(char *msg, size_t size, size_t len, const char *fmt, va_list args)
{
    int n;

    if (len >= size)
        return size;
    n = vsnprintf(msg + len, size - len, fmt, args);
    if (n < 0) {
        msg[len] = '\0';
        return len;
    }
    if ((size_t)n >= size - len)
        mark_cut(msg, size);
    /* gRPC refuses a status text that is not UTF-8, and then the caller would see nothing of it.
     * And what a text quotes (a record's field, a flag) must not drive the terminal it is read on.
     */
    utf8_make_plain(msg + len);
    return (size_t)n < size - len ? len + (size_t)n : size;
}

static PRINTF_LIKE(4, 5) size_t appendf(char *msg, size_t size, size_t len, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    len = append(msg, size, len, fmt, args);
    va_end(args);
    return len;
}

static enum error_code code_of_errno(int sys_errno)
{
    for (size_t i = 0; i < ARRAY_SIZE(errno_codes); i++)
        if (errno_codes[i].sys_errno == sys_errno)
            return errno_codes[i].code;
    return ERR_INTERNAL;
}

/* Built aside, so that an argument may point into the old text. */
int error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
    struct error e = ERROR_INIT;
    va_list args;

    if (err == NULL)
        return -1;
    e.code = code;
    va_start(args, fmt);
    (void)append(e.msg, sizeof(e.msg), 0, fmt, args);
    va_end(args);
    *err = e;
    return -1;
}

int error_errno(struct error *err, int sys_errno, const char *fmt, ...)
{
    struct error e = ERROR_INIT;
    char text[128];
    size_t len;
    va_list args;

    if (err == NULL)
        return -1;
    e.code = code_of_errno(sys_errno);
    e.sys_errno = sys_errno;
    va_start(args, fmt);
    len = append(e.msg, sizeof(e.msg), 0, fmt, args);
    va_end(args);
    (void)appendf(e.msg, sizeof(e.msg), len, ": %s", strerror_r(sys_errno, text, sizeof(text)));
    *err = e;
    return -1;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
    char msg[sizeof(err->msg)] = "";
    size_t len;
    va_list args;

    if (err == NULL)
        return -1;
    va_start(args, fmt);
    len = append(msg, sizeof(msg), 0, fmt, args);
    va_end(args);
    (void)appendf(msg, sizeof(msg), len, ": %s", err->msg);
    memcpy(err->msg, msg, sizeof(msg));
    return -1;
}

int error_memory(struct error *err)
{
    (void)error_set(err, ERR_EXHAUSTED, "out of memory");
    if (err != NULL)
        err->sys_errno = ENOMEM;
    return -1;
}

bool error_is_memory(const struct error *err)
{
    return err != NULL && err->code == ERR_EXHAUSTED && err->sys_errno == ENOMEM;
}

static bool is_repeated(enum error_code code)
{
    static const enum error_code repeated[] = { ERR_CANCELED, ERR_DEADLINE, ERR_UNAVAILABLE,
                                                ERR_EXHAUSTED, ERR_ABORTED };

    for (size_t i = 0; i < ARRAY_SIZE(repeated); i++) {
        if (code == repeated[i])
            return true;
    }
    return false;
}

static bool is_of_descriptors(const struct error *err)
{
    return err->code == ERR_EXHAUSTED && (err->sys_errno == EMFILE || err->sys_errno == ENFILE);
}

int error_recode(struct error *err, enum error_code code)
{
    if (err != NULL && !error_is_memory(err) && (is_repeated(code) || !is_of_descriptors(err)))
        err->code = code;
    return -1;
}

int error_not_final(struct error *err)
{
    return err == NULL || is_repeated(err->code) ? -1 : error_recode(err, ERR_ABORTED);
}

int error_pass(struct error *err, const struct error *from)
{
    if (err != NULL)
        *err = *from;
    return -1;
}

const char *error_code_name(enum error_code code)
{
    unsigned int i = (unsigned int)code;

    return i < ARRAY_SIZE(code_names) ? code_names[i] : "UNKNOWN";
}

enum error_code error_code_from_name(const char *name)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(code_names); i++)
        if (name != NULL && strcmp(code_names[i], name) == 0)
            return (enum error_code)i;
    return ERR_INTERNAL;
}
