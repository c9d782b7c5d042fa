/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_roles.h: the roles by which Coffer's processes log in, and what each login method
 * must say of one, as the body of its request. Pure.
 */
#ifndef COFFER_COFFERCTL_VAULT_ROLES_H
#define COFFER_COFFERCTL_VAULT_ROLES_H

#include "cofferctl/vault_layout.h"
#include "common/base.h"

#include <jansson.h>

#define VAULT_ROLE_POLICIES  3u
#define VAULT_TOKEN_TTL_S    3600
#define VAULT_POD_TTL_S      300 /* it is revoked as soon as it was used */
#define VAULT_ROLE_NAME_SIZE 256

struct vault_role {
    const char *name;                          /* "node": role PREFIXnode */
    const char *policies[VAULT_ROLE_POLICIES]; /* "node": policy PREFIXnode, of node.hcl */
    bool host; /* one coffer-keyd for controller and node: not in Kubernetes */
    bool pods; /* any pod's own service account: the policy says what it may */
};

struct vault_method {
    const char *name;    /* as in the configuration; also the plugin's type */
    const char *section; /* auth/MOUNT/section/ROLE */
    bool names_tenant;   /* its logins say which Kubernetes namespace they are of */
    bool hosts;          /* for machines, not for pods */
    const char *config;  /* what must be set below auth/MOUNT/; NULL: nothing */
    json_t *(*body)(const struct vault_layout *l, const struct vault_role *role);
};

extern const struct vault_role vault_roles[];
extern const size_t vault_n_roles;

const struct vault_role *vault_role_find(const char *name);     /* NULL: none */
const struct vault_method *vault_method_find(const char *name); /* NULL: none */
/* The configuration has a role for pods, at the login method that is set up. */
bool vault_pods_log_in_here(const struct vault_layout *l);
/* What it is called there: PREFIXnode, or as the configuration says. */
void vault_role_name(const struct vault_layout *l, const struct vault_role *role,
                     char ret[VAULT_ROLE_NAME_SIZE]);
/* Is that role asked for (--role), or one of those that suit the method? */
bool vault_role_wanted(const struct vault_layout *l, const struct vault_role *role);

#endif
