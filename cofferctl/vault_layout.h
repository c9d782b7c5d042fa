/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_layout.h: what `vault setup` makes and `vault check` looks for, as values: the
 * mounts, names and bounds that follow from the configuration and the flags. Pure.
 */
#ifndef COFFER_COFFERCTL_VAULT_LAYOUT_H
#define COFFER_COFFERCTL_VAULT_LAYOUT_H

#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"
#include "volume/config.h"

struct vault_layout {
    char transit[128], tenant_key[128]; /* mount; a tenant's key, up to its name. "": no service */
    bool one_key;                       /* tenant_key is the whole name */
    char kv[128], kv_prefix[128];
    char pod_role[128], pod_mount[128]; /* pods' own tokens log in so; "" = none do */
    bool tenants_listed;                /* nobody makes a tenant's key on the way */
    char server_name[128];              /* the server key, in the transit mount; "": none */
    const char *server_key;             /* what names of server keys begin with */
    const char *prefix;                 /* of policies' and roles' names */
    const char *method;                 /* "kubernetes", "jwt", "approle", "cert"; "" = no logins */
    char login[128];                    /* where it is mounted, below auth/ */
    struct flag_strings roles;          /* empty: all that suit the method */
    const char *service_namespace, *audience;         /* kubernetes, jwt */
    const char *kubernetes_host, *kubernetes_ca_text; /* NULL: not set by us */
    const char *client_ca_text;                       /* cert; PEM */
};

/* Adds one key service to it. ERR_INVALID: it goes together with an earlier one in no layout. */
int vault_layout_add(struct vault_layout *l, const struct kms_config *kms,
                     struct error *err) MUST_CHECK;
/* When all are added. */
int vault_layout_check(const struct vault_layout *l, struct error *err) MUST_CHECK;

#endif
