/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/status.h"

#include "common/parse.h"
#include "common/strbuf.h"

static const int numbers[ERR_CODE_COUNT] = {
    [ERR_OK] = 0,
    [ERR_CANCELED] = 1,
    [ERR_INVALID] = 3,
    [ERR_DEADLINE] = 4,
    [ERR_NOT_FOUND] = 5,
    [ERR_EXISTS] = 6,
    [ERR_PERMISSION] = 7,
    [ERR_EXHAUSTED] = 8,
    [ERR_PRECONDITION] = 9,
    [ERR_ABORTED] = 10,
    [ERR_OUT_OF_RANGE] = 11,
    [ERR_UNIMPLEMENTED] = 12,
    [ERR_INTERNAL] = 13,
    [ERR_UNAVAILABLE] = 14,
    [ERR_DATA_LOSS] = 15,
    [ERR_UNAUTHENTICATED] = 16,
};

#define STATUS_INTERNAL 13

int status_from_error(enum error_code code)
{
    if ((unsigned)code >= ERR_CODE_COUNT || code == ERR_OK)
        return STATUS_INTERNAL; /* a failure without a code must not read as success */
    return numbers[code];
}

enum error_code status_to_error(int status)
{
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        if (numbers[i] == status)
            return (enum error_code)i;
    return ERR_INTERNAL;
}

const char *status_text(const struct error *err, char *buf, size_t size)
{
    size_t n = strnlen(err->msg, sizeof(err->msg));
    if (n == 0 || n >= size)
        return error_code_name(err->code == ERR_OK ? ERR_INTERNAL : err->code);
    memcpy(buf, err->msg, n);
    buf[n] = '\0';
    if (utf8_valid(buf, n))
        return buf;
    for (size_t i = 0; i < n; i++) /* cut in the middle of a character, or a foreign name */
        if ((unsigned char)buf[i] >= 0x80)
            buf[i] = '?';
    return buf;
}
