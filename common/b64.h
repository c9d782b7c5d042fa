/* SPDX-License-Identifier: Apache-2.0 */
/*
 * b64.h: RFC 4648 §4 base64 (standard alphabet, padded) and hex, without data-dependent branches or
 * look-ups: the text may be a key. The caller brings the room. Pure.
 */
#ifndef COFFER_COMMON_B64_H
#define COFFER_COMMON_B64_H

#include "common/base.h"

#define B64_LEN(n) ((((n) + 2) / 3) * 4) /* characters, without the NUL */

/* Writes B64_LEN(len) characters and a NUL. */
void b64_encode(char *dst, const void *src, size_t len);
/* Strict: no spaces, canonical padding and zero trailing bits. *ret_len = bytes; -1 when malformed.
 */
int b64_check(const char *src, size_t src_len, size_t *ret_len) MUST_CHECK;
/* The same, and writes the bytes; -1 also when they are over `size`. */
int b64_decode(void *dst, size_t size, const char *src, size_t src_len, size_t *ret_len) MUST_CHECK;
void hex_encode(char *dst, const void *src, size_t len); /* 2*len lower-case digits and a NUL */
/* Exactly 2*len lower-case digits, then NUL. */
int hex_decode(void *dst, const char *src, size_t len) MUST_CHECK;

#endif
