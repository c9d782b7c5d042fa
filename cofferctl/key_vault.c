/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of key_target.h. */
#include "common/base.h"
#include "cofferctl/key_target.h"

#include "common/strbuf.h"
#include "volume/context.h"

/* "transit/keys/NAME" and what comes behind it. */
static const char *path_of(const struct ring_key *k, const char *what, const char *more,
                           char ret[VAULT_PATH_MAX + 1])
{
    (void)snprintf(ret, VAULT_PATH_MAX + 1, "%.127s/%s/%.255s%s", k->kms->vault->mount, what,
                   k->name, more);
    return ret;
}

int key_vault_read(const struct key_target *t, const struct ring_key *k, struct transit_key *ret,
                   json_t **ret_data, struct error *err)
{
    AUTO_JSON json_t *answer = NULL;
    char path[VAULT_PATH_MAX + 1];

    if (vault_session_call(t->login.session, path_of(k, "keys", "", path), NULL, &answer, err) < 0)
        return -1;
    json_t *data = json_object_get(answer, "data");
    if (transit_key_read(data, ret, err) < 0)
        return error_prefix(err, "%s", path);
    *ret_data = json_incref(data);
    return 0;
}

static int write_to(const struct key_target *t, const struct ring_key *k, const char *more,
                    json_t *body, struct error *err)
{
    AUTO_JSON json_t *mine = body;
    AUTO_JSON json_t *answer = NULL;
    char path[VAULT_PATH_MAX + 1];

    if (mine == NULL)
        return error_memory(err);
    return vault_session_call(t->login.session, path_of(k, "keys", more, path), mine, &answer, err);
}

int key_vault_rotate(const struct key_target *t, const struct ring_key *k, struct error *err)
{
    return write_to(t, k, "/rotate", json_object(), err);
}

int key_vault_minimum(const struct key_target *t, const struct ring_key *k, uint64_t version,
                      struct error *err)
{
    return write_to(t, k, "/config", transit_minimum_body(version), err);
}

int key_vault_trim(const struct key_target *t, const struct ring_key *k, uint64_t version,
                   struct error *err)
{
    return write_to(t, k, "/trim", transit_trim_body(version), err);
}

/* What follows "vault:v3:": as long as before, since it wraps as much. An answer that isn't would
 * cost the volume its key. */
static size_t payload_len(const char *ciphertext)
{
    return strlen(strrchr(ciphertext, ':') + 1);
}

static int take(const json_t *answer, const struct record *r, char ret[WRAPPED_KEY_MAX + 1],
                uint64_t *ret_version, struct error *err)
{
    const char *text;
    uint64_t version;

    if (transit_ciphertext(answer, &text, err) < 0)
        return -1;
    if (transit_ciphertext_version(text, &version) < 0 || version <= r->key.version ||
        payload_len(text) != payload_len(r->key.ciphertext))
        return error_set(err, ERR_UNAVAILABLE,
                         "what Vault answered is not the same key under a newer version");
    if (str_copy(ret, WRAPPED_KEY_MAX + 1, text) < 0)
        return error_set(err, ERR_UNAVAILABLE, "Vault's wrapped key is too long for the record");
    *ret_version = version;
    return 0;
}

int key_vault_rewrap(const struct key_target *t, const struct ring_key *k, const struct record *r,
                     char ret[WRAPPED_KEY_MAX + 1], uint64_t *ret_version, struct error *err)
{
    AUTO_JSON json_t *body = NULL;
    AUTO_JSON json_t *answer = NULL;
    unsigned char context[CONTEXT_SIZE];
    char path[VAULT_PATH_MAX + 1];
    uint64_t version;

    if (transit_ciphertext_version(r->key.ciphertext, &version) < 0 || version != r->key.version)
        return error_set(err, ERR_PRECONDITION, "its record holds no wrapped key of version %llu",
                         (unsigned long long)r->key.version);
    context_compute(r->tenant, r->id, r->uuid, context);
    body = transit_rewrap_body(r->key.ciphertext, context, CONTEXT_SIZE);
    if (body == NULL)
        return error_memory(err);
    if (vault_session_call(t->login.session, path_of(k, "rewrap", "", path), body, &answer, err) <
        0)
        return -1;
    return take(answer, r, ret, ret_version, err);
}
