/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hcvault+kv://: storage keys kept in Vault's KV engine, one secret per volume. Deleting it
 * destroys the key: what a backup of the disk holds can't be opened any more. The wrapped key is
 * "kv:v1:<uuid>". The engine binds nothing, so the secret holds the context, which is compared; and
 * its name is the uuid and the context's beginning: a record that claims another volume's uuid
 * leads to nothing there, so minting and destroying for it don't touch the other one's key. A key
 * that is there is never replaced: minting once more for a volume finds the key it has.
 */
#include "common/base.h"
#include "keyd/kms_vault.h"

#include "common/b64.h"
#include "common/strbuf.h"
#include "vault/kv.h"
#include "vault/status.h"

#define TEXT_PREFIX "kv:v1:"

static const struct capability_row rows[] = {
    { "data/%s", "create", CAP_MINT, false },
    { "metadata/%s", "read", CAP_MINT, false },
    { "data/%s", "read", CAP_UNWRAP, false },
    { "metadata/%s", "delete", CAP_DESTROY, false },
    /* what would replace a key that a volume needs, hide it, or have it go at a date */
    { "data/%s", "update", CAP_NEVER, false },
    { "data/%s", "patch", CAP_NEVER, false },
    { "data/%s", "delete", CAP_NEVER, false },
    { "metadata/%s", "update", CAP_NEVER, false },
    { "metadata/%s", "patch", CAP_NEVER, false },
};

/* ---- mint ---- */

static void end_minted(struct vault_job *j)
{
    struct keyd_wrapped *key = &j->job->wrapped;
    *key = (struct keyd_wrapped){ .kind = "kv", .version = 1 };
    (void)snprintf(key->ciphertext, sizeof(key->ciphertext), TEXT_PREFIX "%s",
                   j->job->call.binding->uuid);
    vault_job_end(j, NULL);
}

/* What refused to store says why when nothing is there. */
static void on_looked(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    if (err.code == ERR_OK && kv_intact(answer->body, &err) == 0)
        end_minted(j);
    else
        vault_job_end(j, answer->status == 404 ? &j->refusal : &err);
}

/* There may be one already: 400 says so, or 403 where the policy allows to create only. It is of an
 * earlier attempt for the same volume, or of another controller's at this moment, and it is this
 * volume's key from now on. Replacing it would be wrong: what removes it could be carried out late,
 * when the volume has data under the key that came after it. */
static bool look_for_it(struct vault_job *j, const struct vault_answer *answer)
{
    if (answer->status != 403 && strcmp(answer->reason, VAULT_REASON_EXISTS) != 0)
        return false;
    j->refusal = answer->err;
    vault_job_ask(j, "GET", "metadata/%s", false, NULL, on_looked);
    return true;
}

static void on_stored(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = answer->err;
    if (err.code != ERR_OK && look_for_it(j, answer))
        return;
    if (err.code == ERR_OK && kv_created(answer->body, &err) == 0)
        end_minted(j);
    else
        vault_job_end(j, &err);
}

static void mint(struct vault_job *j)
{
    struct error err = ERROR_INIT;
    j->fresh = secret_new(KV_KEY_BYTES, &err);
    if (j->fresh == NULL || secret_random(j->fresh, KV_KEY_BYTES, &err) < 0)
        vault_job_end(j, &err);
    else /* a refusal may mean that there is one already, so it leads to no login; looking does */
        vault_job_probe(j, "data/%s", kv_create_body(j->fresh, j->job->call.context), on_stored);
}

/* ---- unwrap ---- */

static void on_read(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    struct error err = ERROR_INIT;
    if (answer->err.code != ERR_OK && answer->status == 404 && answer->reason[0] == '\0')
        (void)error_set(&err, ERR_PRECONDITION,
                        "Vault keeps no key for this volume: it was deleted");
    else if (answer->err.code != ERR_OK)
        err = answer->err;
    else if (kv_key(answer->body, j->job->call.context, &j->job->plain, &err) < 0 &&
             err.code == ERR_PRECONDITION) {
        err = (struct error)ERROR_INIT;
        (void)kms_refuse_key(&err);
    }
    vault_job_end(j, err.code == ERR_OK ? NULL : &err);
}

static void unwrap(struct vault_job *j)
{
    vault_job_ask(j, "GET", "data/%s", false, NULL, on_read);
}

/* ---- destroy ---- */

/* 404 isn't "gone": the engine answers 204 for what isn't there, so something else says it, such as
 * another mount or another server. */
static void on_destroyed(void *ctx, const struct vault_answer *answer)
{
    struct vault_job *j = ctx;
    vault_job_end(j, answer->err.code == ERR_OK ? NULL : &answer->err);
}

/* All versions and what is known of them: DELETE data/ would keep them. */
static void destroy(struct vault_job *j)
{
    vault_job_ask(j, "DELETE", "metadata/%s", false, NULL, on_destroyed);
}

/* ---- the driver ---- */

static void start(struct kms_vault *s, struct kms_job *job, void (*go)(struct vault_job *j))
{
    char path[256], hex[2 * CONTEXT_SIZE + 1];
    hex_encode(hex, job->call.context, CONTEXT_SIZE);
    (void)snprintf(path, sizeof(path), "%s/%s-%.32s", s->config.name, job->call.binding->uuid, hex);
    vault_job_start(s, job, path, go);
}

static void kv_mint(void *state, struct kms_job *job)
{
    start(state, job, mint);
}

static void kv_destroy(void *state, struct kms_job *job)
{
    start(state, job, destroy);
}

/* The wrapped key names the volume's own uuid, or it is another volume's. */
static void kv_unwrap(void *state, struct kms_job *job)
{
    const char *text = job->key->ciphertext;
    struct error err = ERROR_INIT;
    if (job->call.token.len > 0) {
        (void)error_set(&err, ERR_INVALID, "a kv key service takes no caller's token");
        kms_end(job, &err);
        return;
    }
    if (job->key->version == 1 && strncmp(text, TEXT_PREFIX, strlen(TEXT_PREFIX)) == 0 &&
        strcmp(text + strlen(TEXT_PREFIX), job->call.binding->uuid) == 0) {
        start(state, job, unwrap);
        return;
    }
    (void)kms_refuse_key(&err);
    kms_end(job, &err);
}

static int kv_open(const struct kms_config *config, const struct kms_env *env, void **ret,
                   struct error *err)
{
    return kms_vault_open(config, env, rows, ARRAY_SIZE(rows), ret, err);
}

const struct kms_driver kms_vault_kv = {
    .prefix = "hcvault+kv://",
    .kind = "kv",
    .network = true,
    .open = kv_open,
    .close = kms_vault_close,
    .mint = kv_mint,
    .unwrap = kv_unwrap,
    .destroy = kv_destroy,
    .stop = kms_vault_stop,
    .status = kms_vault_status,
    .stats = kms_vault_stats,
};
