/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_secret_id.h: what a machine needs to log in by approle: the role's id, which is
 * no secret, and a secret id, which goes into one file of mode 0600 and nowhere else.
 */
#ifndef COFFER_COFFERCTL_VAULT_SECRET_ID_H
#define COFFER_COFFERCTL_VAULT_SECRET_ID_H

#include "cofferctl/vault_layout.h"
#include "cofferctl/vault_session.h"
#include "common/base.h"

/* "" when there is no such role yet. */
int vault_role_id(struct vault_session *s, const struct vault_layout *l, const char *role,
                  char ret[256], struct error *err) MUST_CHECK;
/* wrap_ttl_s not 0: a token goes into the file by which the secret id is fetched, once, within
 * that time. *ret_made false: the file is there already, and is left alone. */
int vault_secret_id_make(struct vault_session *s, const struct vault_layout *l, const char *role,
                         const char *path, unsigned wrap_ttl_s, bool *ret_made,
                         struct error *err) MUST_CHECK;

#endif
