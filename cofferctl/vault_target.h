/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_target.h: which Vault the verbs of group "vault" ask, as whom, and what it must
 * have there: the configuration's key services, with flags over them.
 */
#ifndef COFFER_COFFERCTL_VAULT_TARGET_H
#define COFFER_COFFERCTL_VAULT_TARGET_H

#include "cofferctl/cli.h"
#include "cofferctl/vault_layout.h"
#include "cofferctl/vault_login.h"
#include "common/base.h"
#include "common/cleanup.h"
#include "volume/config.h"

/* The rows that all verbs of the group have. */
/* clang-format off */
#define VAULT_FLAGS \
    { "kms", NULL, FLAG_STRINGS, &vault_flags.kms, NULL, \
      "a key service of the configuration; repeatable; default: all that are Vault's", NULL }, \
    VAULT_SERVER_FLAGS, \
    { "policies", NULL, FLAG_STRING, &vault_flags.policies, "", \
      "folder of the policy files; default: share/coffer/vault beside the program", NULL }, \
    { "auth", NULL, FLAG_STRING, &vault_flags.auth, "configured", \
      "login method of Coffer's processes", "configured|kubernetes|jwt|approle|cert|none" }, \
    { "auth-mount", NULL, FLAG_STRING, &vault_flags.auth_mount, "", \
      "where it is mounted; default: the configuration's, else the method's name", NULL }, \
    { "role", NULL, FLAG_STRINGS, &vault_flags.roles, NULL, \
      "controller, node, scheduler, rotation, host, pod; repeatable; default: what suits", NULL }, \
    { "prefix", NULL, FLAG_STRING, &vault_flags.prefix, "coffer-", \
      "what names of policies, roles and service accounts begin with", NULL }, \
    { "server-key", NULL, FLAG_STRING, &vault_flags.server_key, "coffer-s-", \
      "what names of server keys begin with", NULL }, \
    { "service-namespace", NULL, FLAG_STRING, &vault_flags.service_namespace, "coffer", \
      "Kubernetes namespace of Coffer's service accounts", NULL }, \
    { "audience", NULL, FLAG_STRING, &vault_flags.audience, "vault", \
      "audience of their tokens", NULL }, \
    { "kubernetes-host", NULL, FLAG_STRING, &vault_flags.kubernetes_host, "", \
      "URL of the Kubernetes API, for the method's settings; default: leave them alone", NULL }, \
    { "kubernetes-ca", NULL, FLAG_STRING, &vault_flags.kubernetes_ca, "", \
      "PEM file of its certificates; default: what Vault's own pod has", NULL }, \
    { "client-ca", NULL, FLAG_STRING, &vault_flags.client_ca, "", \
      "PEM file: whose client certificates method cert takes", NULL }
/* clang-format on */

struct vault_target {
    struct config *config;
    const struct kms_config *kms; /* the first of the chosen ones: where and how to log in */
    struct vault_layout layout;
    struct vault_login login;
    struct vault_session *session; /* the login's */
    char policies[4096];
    char *kubernetes_ca_text, *client_ca_text;
};

/* Sends nothing. VAULT_AS_ANYBODY: without a token, the configuration's login is used. ERR_INVALID
 * names what is missing. The first thing in a verb: libraries are told to wipe their memory. */
int vault_target_open(const struct cli *cli, enum vault_as as, struct vault_target **ret,
                      struct error *err) MUST_CHECK;
void vault_target_free(struct vault_target *t);

DEFINE_AUTO(vault_target, vault_target_free)
#define AUTO_VAULT_TARGET __attribute__((cleanup(cleanup_vault_target)))

#endif
