/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_kms.h: one key service of the configuration file. The prefix of its URI says what it is
 * and which further fields it may have:
 *   file:///path                             a master key in a file; no further field
 *   hcvault://HOST:PORT/MOUNT/keys/NAME      Vault's transit engine; {tenant} in NAME; server_key
 *   hcvault+kv://HOST:PORT/MOUNT/PREFIX      Vault's KV engine, version 2
 * Paths are checked for form only: which process may read them is known elsewhere. Pure.
 */
#ifndef COFFER_VOLUME_CONFIG_KMS_H
#define COFFER_VOLUME_CONFIG_KMS_H

#include "common/base.h"
#include "common/error.h"
#include "common/json.h"
#include "volume/record.h"

#define CONFIG_ADDRESSES_MAX 8
#define CONFIG_TENANT_MARK   "{tenant}"
#define KMS_KEY_NAME_SIZE    256

enum kms_kind { KMS_FILE, KMS_VAULT_TRANSIT, KMS_VAULT_KV };

struct kms_auth_config { /* "" = not given */
    char method[16];     /* kubernetes, jwt, approle, cert, token-file */
    char mount[128], role[128], token_path[1024], role_id[256], secret_id_path[1024];
    bool secret_id_wrapped;
    char pod_role[128];  /* transit: pods' own tokens log in with it; "" = none do */
    char pod_mount[128]; /* of the login method for them; never "" beside a pod_role */
};

struct kms_vault_config {
    char addresses[CONFIG_ADDRESSES_MAX][288]; /* host:port; [0] is the URI's */
    size_t n_addresses;
    char mount[128], name[128]; /* transit: the key's name; KV: the prefix */
    char ca[1024];              /* PEM bundle */
    char client_cert[1024], client_key[1024], proxy[512], name_space[256]; /* "" = none */
    uint64_t timeout_ms;                                                   /* of one attempt */
    bool tenants_listed;  /* a tenant's key must be there: nobody makes it on the way */
    char server_key[128]; /* transit: the RSA key that devices wrap a session for; "" = none */
    struct kms_auth_config auth;
};

struct kms_config {
    char name[KMS_NAME_MAX + 1];
    char uri[1024];
    enum kms_kind kind;
    struct kms_vault_config *vault; /* NULL for a file; freed by config_free */
};

/* ret->vault is the caller's, after a failure too. The message starts with the service's name. */
int kms_config_decode(const char *name, json_t *obj, struct kms_config *ret,
                      struct error *err) MUST_CHECK;
/* Replaces the role of a login by kubernetes or jwt; other logins, and files, stay as they are.
 * ERR_INVALID when it is no part of a path. */
int kms_config_set_role(struct kms_config *c, const char *role, struct error *err) MUST_CHECK;
/* The name of a tenant's key: "coffer-t-{tenant}" with the tenant. */
void kms_key_name(const struct kms_vault_config *v, const char *tenant,
                  char ret[KMS_KEY_NAME_SIZE]);
/* Absolute, and the same for everybody who reads it: no empty, "." or ".." part. */
bool config_path_plain(const char *path);

#endif
