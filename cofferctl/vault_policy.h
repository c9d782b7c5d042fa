/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_policy.h: a policy file of deploy/vault with its placeholders (@TRANSIT@ and the
 * like) filled in: that text, with its comments, is what Vault gets. A block (path "..." { ... })
 * with a placeholder that has no value here is left out, with the comment on top of it: a mount
 * that this installation doesn't have is allowed to nobody. Pure, but for vault_policy_read.
 */
#ifndef COFFER_COFFERCTL_VAULT_POLICY_H
#define COFFER_COFFERCTL_VAULT_POLICY_H

#include "common/base.h"
#include "common/error.h"
#include "common/strbuf.h"

#define VAULT_POLICY_MAX KIB(64)

struct vault_placeholder {
    const char *name;  /* "TRANSIT": stands as @TRANSIT@ */
    const char *value; /* NULL: none, so blocks with it are left out */
};

struct vault_substitution {
    const struct vault_placeholder *items;
    size_t n;
    const char
        *without; /* blocks whose path is this (before filling in) are left out; NULL: none */
};

/* ERR_INVALID names a placeholder that nobody knows, or a value that can't stand in a policy. */
int vault_policy_fill(const char *text, const struct vault_substitution *s, struct strbuf *ret,
                      struct error *err) MUST_CHECK;

/* Appends the file `folder`/`name`.hcl. */
int vault_policy_read(const char *folder, const char *name, struct strbuf *ret,
                      struct error *err) MUST_CHECK;

#endif
