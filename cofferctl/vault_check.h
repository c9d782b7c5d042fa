/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_check.h: inside `cofferctl vault check`. Each look adds lines to the findings and
 * changes nothing. What can't be seen with this token is a WARN that says so, never an OK.
 */
#ifndef COFFER_COFFERCTL_VAULT_CHECK_H
#define COFFER_COFFERCTL_VAULT_CHECK_H

#include "cofferctl/findings.h"
#include "cofferctl/vault_target.h"
#include "common/base.h"

/* vault_check_server.c: false: there is no use in asking further. */
bool vault_check_server(const struct vault_target *t, struct findings *f);
bool vault_check_token(const struct vault_target *t, struct findings *f);
void vault_check_audit(const struct vault_target *t, struct findings *f);

/* vault_check_keys.c: the keys of tenants and of the server */
void vault_check_keys(const struct vault_target *t, struct findings *all);
/* What is wrong with one key, as the engine describes it: NULL: nothing. Pure. */
const char *vault_key_problem(const json_t *key, bool tenant, enum verdict *ret);

/* vault_check_login.c: what the configuration's own login may do */
void vault_check_login(const struct vault_target *t, struct findings *f);

#endif
