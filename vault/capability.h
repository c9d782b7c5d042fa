/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault/capability.h: what sys/capabilities-self answers. Values only: no request. Pure.
 */
#ifndef COFFER_VAULT_CAPABILITY_H
#define COFFER_VAULT_CAPABILITY_H

#include "common/base.h"

#include <jansson.h>

/* `list`: what Vault says that a token may do at one path (NULL: nothing). "root" may all, "deny"
 * stands alone. */
bool vault_capability_in(const json_t *list, const char *capability);

#endif
