/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hcvault://: storage keys wrapped by Vault's transit engine. A tenant's key there is derived: what
 * it wraps opens with the same context alone. That the server holds to it is seen once per tenant,
 * by a request that must be refused, before anything of that tenant is minted or unwrapped. MINT
 * has Vault make the key and hand out its wrapped form only, so this process never sees it.
 */
#include "common/base.h"
#include "keyd/kms_vault.h"

#include "common/strbuf.h"
#include "vault/status.h"
#include "vault/transit.h"

/* The last two: a rule keys/coffer-t-* for making a tenant's key would cover them as well, whatever
 * parameters it asks for (deploy/vault/controller.hcl has the one that doesn't). */
static const struct capability_row rows[] = {
    { "datakey/wrapped/%s", "update", CAP_MINT, false },
    { "decrypt/%s", "update", CAP_UNWRAP, false },
    { "datakey/plaintext/%s", "update", CAP_NEVER, false },
    { "export/encryption-key/%s", "read", CAP_NEVER, false },
    { "backup/%s", "read", CAP_NEVER, false },
    { "keys/%s/config", "update", CAP_NEVER, false },
    { "keys/%s/rotate", "update", CAP_NEVER, false },
    { "decrypt/%s", "update", CAP_UNWRAP_CLIENT, true },
    { "keys/%s", "read", CAP_SERVER_KEY, true },
    { "export/encryption-key/%s", "read", CAP_NEVER, true },
    { "backup/%s", "read", CAP_NEVER, true },
    { "keys/%s/config", "update", CAP_NEVER, true },
    { "keys/%s/rotate", "update", CAP_NEVER, true },
};

/* 403 says something of the missing context only when the token was good: when what came after it
 * was done with the same one. */
static void note_bound(struct vault_job *j, const struct vault_answer *answer)
{
    if (answer->err.code == ERR_OK && j->probed != 0 && j->probed == answer->token)
        vault_set_bound(j->s, BOUND_MINT, j->job->call.binding->tenant);
}

/* ---- mint ---- */

static void mint(struct vault_job *j);

static void on_created(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    if (answer->err.code == ERR_OK)
        mint(j);
    else
        vault_job_end(j, &answer->err);
}

/* The tenant's first volume. */
static bool create_key(struct vault_job *j, const struct vault_answer *answer)
{
    if (strcmp(answer->reason, VAULT_REASON_NO_KEY) != 0 || j->s->config.tenants_listed ||
        j->repeated++ > 0)
        return false;
    vault_job_ask(j, "POST", "keys/%s", true, transit_create_body(), on_created);
    return true;
}

static int take_wrapped(const struct vault_answer *answer, struct keyd_wrapped *ret,
                        struct error *err)
{
    struct keyd_wrapped key = { .kind = "transit" };
    const char *text;
    if (transit_ciphertext(answer->body, &text, err) < 0)
        return -1;
    if (transit_ciphertext_version(text, &key.version) < 0 ||
        str_copy(key.ciphertext, sizeof(key.ciphertext), text) < 0)
        return error_set(err, ERR_UNAVAILABLE, "Vault's wrapped key has a form we don't know");
    *ret = key;
    return 0;
}

static void on_datakey(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    note_bound(j, answer);
    if (err.code == ERR_OK)
        (void)!take_wrapped(answer, &j->job->wrapped, &err);
    else if (create_key(j, answer))
        return;
    vault_job_end(j, err.code == ERR_OK ? NULL : &err);
}

static void ask_datakey(struct vault_job *j)
{
    vault_job_ask(j, "POST", "datakey/wrapped/%s", true,
                  transit_datakey_body(j->job->call.context, CONTEXT_SIZE), on_datakey);
}

/* ---- is the key bound to its context? ---- */

static int judge_probe(const struct vault_job *j, const struct vault_answer *answer,
                       struct error *err)
{
    if (answer->err.code == ERR_OK)
        return error_set(err, ERR_PRECONDITION,
                         "transit key '%s' opens whatever the context: it must be derived",
                         j->name);
    return answer->status == 400 ? 0 : error_pass(err, &answer->err);
}

static void on_mint_probed(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = ERROR_INIT;
    if (answer->err.code != ERR_OK && create_key(j, answer))
        return;
    /* 403: the policy wants a context. */
    if (answer->status != 403 && judge_probe(j, answer, &err) < 0) {
        vault_job_end(j, &err);
        return;
    }
    j->probed = answer->token;
    ask_datakey(j);
}

static void mint(struct vault_job *j)
{
    if (vault_bound(j->s, BOUND_MINT, j->job->call.binding->tenant))
        ask_datakey(j);
    else
        vault_job_probe(j, "datakey/wrapped/%s", transit_datakey_body(NULL, 0), on_mint_probed);
}

/* ---- unwrap ---- */

/* What an administrator can mend is named; all else is one sentence. */
static void explain(const struct vault_answer *answer, struct error *err)
{
    if (answer->status != 400 || strcmp(answer->reason, VAULT_REASON_NO_KEY) == 0 ||
        strcmp(answer->reason, VAULT_REASON_TOO_OLD) == 0)
        return;
    *err = (struct error)ERROR_INIT;
    (void)kms_refuse_key(err);
}

static void on_decrypted(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    if (err.code != ERR_OK)
        explain(answer, &err);
    else if (transit_plaintext(answer->body, &j->job->plain, &err) == 0 && j->binds)
        vault_set_bound(j->s, BOUND_UNWRAP, j->job->call.binding->tenant);
    vault_job_end(j, err.code == ERR_OK ? NULL : &err);
}

static void decrypt(struct vault_job *j)
{
    vault_job_ask(j, "POST", "decrypt/%s", true,
                  transit_decrypt_body(j->job->key->ciphertext, j->job->call.context, CONTEXT_SIZE),
                  on_decrypted);
}

static void on_unwrap_probed(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = ERROR_INIT;
    if (judge_probe(j, answer, &err) < 0) {
        vault_job_end(j, &err);
        return;
    }
    /* Refused for another reason, it is asked again next time; decrypting says what is wrong. */
    j->binds = strcmp(answer->reason, VAULT_REASON_FOREIGN) == 0;
    decrypt(j);
}

/* With one bit of the context turned over. A policy can't tell one context from another, so 403 is
 * no good answer here: it may be the token's, and then another one is got. */
static void unwrap(struct vault_job *j)
{
    unsigned char wrong[CONTEXT_SIZE];
    if (vault_bound(j->s, BOUND_UNWRAP, j->job->call.binding->tenant)) {
        decrypt(j);
        return;
    }
    memcpy(wrong, j->job->call.context, CONTEXT_SIZE);
    wrong[0] ^= 1;
    vault_job_ask(j, "POST", "decrypt/%s", true,
                  transit_decrypt_body(j->job->key->ciphertext, wrong, CONTEXT_SIZE),
                  on_unwrap_probed);
}

/* ---- the driver ---- */

static void start(struct kms_vault *s, struct kms_job *job, void (*go)(struct vault_job *j))
{
    const char *tenant = job->call.binding->tenant;
    char name[KMS_KEY_NAME_SIZE], foreign[KMS_KEY_NAME_SIZE];
    kms_key_name(&s->config, tenant, name);
    if (job->call.token.len == 0) {
        vault_job_start(s, job, name, go);
        return;
    }
    kms_key_name(&s->config, strcmp(tenant, "0") == 0 ? "1" : "0", foreign);
    vault_job_start_pod(s, job, name, foreign, go);
}

static void transit_mint(void *state, struct kms_job *job)
{
    start(state, job, mint);
}

static void transit_unwrap(void *state, struct kms_job *job)
{
    struct error err = ERROR_INIT;
    uint64_t version;
    if (transit_ciphertext_version(job->key->ciphertext, &version) == 0 &&
        version == job->key->version) {
        start(state, job, unwrap);
        return;
    }
    (void)kms_refuse_key(&err);
    kms_end(job, &err);
}

static void transit_unwrap_client(void *state, struct kms_job *job)
{
    struct kms_vault *s = state;
    if (s->config.server_key[0] == '\0')
        kms_no_server_key(job);
    else
        start(s, job, vault_session_open);
}

/* It is of no tenant; the self-test asks about any tenant's key. */
static void transit_server_key(void *state, struct kms_job *job)
{
    struct kms_vault *s = state;
    char name[KMS_KEY_NAME_SIZE];
    if (s->config.server_key[0] == '\0') {
        kms_no_server_key(job);
        return;
    }
    kms_key_name(&s->config, "0", name);
    vault_job_start(s, job, name, vault_server_key_read);
}

static int transit_open(const struct kms_config *config, const struct kms_env *env, void **ret,
                        struct error *err)
{
    return kms_vault_open(config, env, rows, ARRAY_SIZE(rows), ret, err);
}

const struct kms_driver kms_vault_transit = {
    .prefix = "hcvault://",
    .kind = "transit",
    .network = true,
    .open = transit_open,
    .close = kms_vault_close,
    .mint = transit_mint,
    .unwrap = transit_unwrap,
    .unwrap_client = transit_unwrap_client,
    .server_key = transit_server_key,
    .stop = kms_vault_stop,
    .status = kms_vault_status,
    .stats = kms_vault_stats,
};
