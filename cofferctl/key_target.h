/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/key_target.h: what all verbs of group "key" work on: the configuration, its pools, and
 * the Vault of its transit services; and requests to that one, key by key. No request shows a key:
 * rewrap gives a ciphertext for a ciphertext. One thread.
 */
#ifndef COFFER_COFFERCTL_KEY_TARGET_H
#define COFFER_COFFERCTL_KEY_TARGET_H

#include "backends/backend.h"
#include "cofferctl/cli.h"
#include "cofferctl/key_ring.h"
#include "cofferctl/vault_login.h"
#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "vault/transit.h"
#include "volume/config.h"

struct key_flags {
    const char *tenant, *volume, *role;
    bool all;
};

extern struct key_flags key_flags;

/* clang-format off */
#define KEY_VAULT_FLAGS \
    { "kms", NULL, FLAG_STRINGS, &vault_flags.kms, NULL, \
      "a transit key service of the configuration; repeatable; default: all", NULL }, \
    VAULT_SERVER_FLAGS, \
    { "vault-role", NULL, FLAG_STRING, &key_flags.role, "", \
      "role to log in with (kubernetes, jwt) instead of the configuration's", NULL }

#define KEY_TENANT_FLAGS \
    { "tenant", NULL, FLAG_STRING, &key_flags.tenant, "", "that tenant's key", NULL }, \
    { "all", NULL, FLAG_BOOL, &key_flags.all, "false", "the keys of all tenants", NULL }
/* clang-format on */

struct key_target {
    struct config *config;
    struct pool_set *pools;
    const struct kms_config *kms; /* the first of the chosen ones */
    struct vault_login login;     /* .session NULL: opened without Vault */
};

/* Exactly one of --tenant and --all (and --volume, where the verb has it); a tenant's name. */
int key_flags_check(bool with_volume, struct error *err) MUST_CHECK;

/* Opens the pools (one that isn't there shows in a scan) and, with_vault, a session; sends nothing.
 * ERR_INVALID: no transit service is chosen, or two at different servers. */
int key_target_open(const struct cli *cli, bool with_vault, struct key_target **ret,
                    struct error *err) MUST_CHECK;
void key_target_free(struct key_target *t);
DEFINE_AUTO(key_target, key_target_free)
#define AUTO_KEY_TARGET __attribute__((cleanup(cleanup_key_target)))

/* A transit service that --kms names, or any when it names none. */
bool key_kms_chosen(const struct kms_config *kms);
/* What --tenant or --all means, of all keys of a ring. */
bool key_is_chosen(const struct ring_key *k);
/* Puts --tenant's keys into the ring, when no volume here has them. */
int key_ring_want_chosen(struct key_ring *ring, const struct key_target *t,
                         struct error *err) MUST_CHECK;

/* ---- one key in Vault ---- */

/* *ret_data: the whole answer, for transit_key_made; the caller frees. No such key, or hidden:
 * ERR_NOT_FOUND. */
int key_vault_read(const struct key_target *t, const struct ring_key *k, struct transit_key *ret,
                   json_t **ret_data, struct error *err) MUST_CHECK;
int key_vault_rotate(const struct key_target *t, const struct ring_key *k,
                     struct error *err) MUST_CHECK;
int key_vault_minimum(const struct key_target *t, const struct ring_key *k, uint64_t version,
                      struct error *err) MUST_CHECK;
int key_vault_trim(const struct key_target *t, const struct ring_key *k, uint64_t version,
                   struct error *err) MUST_CHECK;
/* r's wrapped key under the newest version. ERR_PRECONDITION: Vault refuses this one. */
int key_vault_rewrap(const struct key_target *t, const struct ring_key *k, const struct record *r,
                     char ret[WRAPPED_KEY_MAX + 1], uint64_t *ret_version,
                     struct error *err) MUST_CHECK;

#endif
