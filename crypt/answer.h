/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer.h: what coffer-crypt wrote on its stdout, as its caller reads it. A helper that was
 * killed, or is of another version, may have written anything: what isn't an answer is
 * ERR_INTERNAL, and outputs stay untouched. Pure.
 */
#ifndef COFFER_CRYPT_ANSWER_H
#define COFFER_CRYPT_ANSWER_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "crypt/client.h"

/* The reply of a helper that exited with that code; its own error becomes *err. */
int answer_read(const char *verb, const char *text, size_t len, int exit_code, json_t **ret,
                struct error *err) MUST_CHECK;
int answer_mapping(json_t *reply, struct mapping *ret, struct error *err) MUST_CHECK;
int answer_mappings(json_t *reply, struct mapping_list *ret, struct error *err) MUST_CHECK;
/* A field of 64 lower-case hex digits. */
int answer_hex(json_t *reply, const char *key, char ret[65], struct error *err) MUST_CHECK;

#endif
