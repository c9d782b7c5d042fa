/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_plan.h: a layout as the list of what Vault must have, in the order in which it is
 * made. First the mounts; the rest is known when they are there, because a policy may name the
 * accessor of a login method.
 */
#ifndef COFFER_COFFERCTL_VAULT_PLAN_H
#define COFFER_COFFERCTL_VAULT_PLAN_H

#include "cofferctl/vault_item.h"
#include "cofferctl/vault_layout.h"
#include "common/base.h"
#include "common/cleanup.h"

#define VAULT_PLAN_MAX 32u

struct vault_plan {
    struct vault_item items[VAULT_PLAN_MAX];
    size_t n;
};

/* Pure. The caller frees with vault_plan_free. */
int vault_plan_mounts(const struct vault_layout *l, struct vault_plan **ret,
                      struct error *err) MUST_CHECK;
/* folder: of the policy files; accessor: of the login method, "": not known yet. */
int vault_plan_rest(const struct vault_layout *l, const char *folder, const char *accessor,
                    struct vault_plan **ret, struct error *err) MUST_CHECK;
void vault_plan_free(struct vault_plan *p);

DEFINE_AUTO(vault_plan, vault_plan_free)
#define AUTO_VAULT_PLAN __attribute__((cleanup(cleanup_vault_plan)))

#endif
