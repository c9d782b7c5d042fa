/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapping.h: a `struct mapping` as JSON: what coffer-crypt answers and its client reads. Pure.
 */
#ifndef COFFER_CRYPT_MAPPING_H
#define COFFER_CRYPT_MAPPING_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "crypt/client.h"

const char *mapping_state_name(enum mapping_state state); /* "ok", "zombie", "wrong" */
json_t *mapping_to_json(const struct mapping *m); /* new reference, or NULL: out of memory */
int mapping_from_json(json_t *obj, struct mapping *ret, struct error *err) MUST_CHECK;
/* Array of the above. */
int mapping_list_from_json(json_t *array, struct mapping_list *ret, struct error *err) MUST_CHECK;

#endif
