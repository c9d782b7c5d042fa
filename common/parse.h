/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parse.h: strict text to number: no sign, no spaces, no trailing text, no overflow. 0, or -1 with
 * the output untouched: the caller knows what the text was to be and says so. Pure.
 */
#ifndef COFFER_COMMON_PARSE_H
#define COFFER_COMMON_PARSE_H

#include "common/base.h"

#include <sys/types.h>

int parse_u64(const char *text, uint64_t *ret) MUST_CHECK;  /* decimal digits only */
int parse_bool(const char *text, bool *ret) MUST_CHECK;     /* "true" | "false" */
int parse_size(const char *text, uint64_t *ret) MUST_CHECK; /* digits, nothing or Ki, Mi, Gi, Ti */
/* A device number as the kernel writes it: "major:minor" in decimal, within its 12 and 20 bits. */
int parse_dev(const char *text, dev_t *ret) MUST_CHECK;
bool utf8_valid(const char *text, size_t len);       /* RFC 3629 */
size_t utf8_char_len(const char *text, size_t left); /* of the first; 0: malformed */
/* Bytes of the first character when no terminal may get it: C0, DEL, C1, the marks that end a line
 * or turn the direction of writing. Else 0. */
size_t utf8_unsafe_len(const char *text, size_t len);
void utf8_make_plain(char *text); /* what is unsafe or malformed becomes '?', byte by byte */
bool hex_lower_valid(const char *text, size_t digits); /* that many of [0-9a-f], then NUL */
bool uuid_valid(const char *text);                     /* 8-4-4-4-12 lower-case hex, NUL */
int uuid_random(char ret[37]) MUST_CHECK;              /* RFC 9562 version 4, lower case */

#endif
