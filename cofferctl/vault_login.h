/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/vault_login.h: the session that verbs of groups "vault" and "key" have with one Vault:
 * the configuration's server and login, with flags over them. The administrator's token comes from
 * VAULT_TOKEN, which is wiped from the environment, or from a file.
 */
#ifndef COFFER_COFFERCTL_VAULT_LOGIN_H
#define COFFER_COFFERCTL_VAULT_LOGIN_H

#include "cofferctl/vault_session.h"
#include "common/base.h"
#include "common/error.h"
#include "common/flags.h"
#include "volume/config.h"

struct vault_flags {
    struct flag_strings kms, roles;
    const char *address, *ca, *name_space, *token_file, *policies;
    const char *auth, *auth_mount, *prefix, *server_key;
    const char *service_namespace, *audience, *kubernetes_host, *kubernetes_ca, *client_ca;
};

extern struct vault_flags vault_flags;

/* The rows of whom to ask, as whom. */
/* clang-format off */
#define VAULT_SERVER_FLAGS \
    { "address", "VAULT_ADDR", FLAG_STRING, &vault_flags.address, "", \
      "https://HOST:PORT instead of the configuration's", NULL }, \
    { "ca", "VAULT_CACERT", FLAG_STRING, &vault_flags.ca, "", \
      "PEM file of the certificates to trust instead of the configuration's", NULL }, \
    { "namespace", "VAULT_NAMESPACE", FLAG_STRING, &vault_flags.name_space, "", \
      "Vault's namespace instead of the configuration's", NULL }, \
    { "token-file", NULL, FLAG_STRING, &vault_flags.token_file, "", \
      "file with the administrator's token; default: VAULT_TOKEN", NULL }
/* clang-format on */

struct vault_login {
    struct vault_session *session;
    char address[288];  /* the first one */
    bool administrator; /* with a token that was given; else: as the configuration says */
};

enum vault_as { VAULT_AS_ADMINISTRATOR, VAULT_AS_ANYBODY };

/* The first thing in a verb: libraries are told to wipe their memory, nobody may read ours. */
int vault_login_prepare(struct error *err) MUST_CHECK;
/* ERR_INVALID: the two are at different servers, and --address names none. */
int vault_login_same(const struct kms_config *first, const struct kms_config *other,
                     struct error *err) MUST_CHECK;
/* Sends nothing. kms: one of Vault's. VAULT_AS_ANYBODY: without a token, the configuration's login
 * is used. ERR_INVALID names what is missing. The session is the caller's to close. */
int vault_login_open(const struct kms_config *kms, enum vault_as as, struct vault_login *ret,
                     struct error *err) MUST_CHECK;

#endif
