/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_rewrap.h"

#include "common/fault.h"

/* What a failing step means for the volume. */
static enum rewrapped outcome_of(const struct error *problem)
{
    if (problem->code == ERR_ABORTED)
        return REWRAP_BUSY;
    return problem->code == ERR_NOT_FOUND ? REWRAP_GONE : REWRAP_FAILED;
}

static int end(const struct error *problem, enum rewrapped *ret, struct error *err)
{
    *ret = outcome_of(problem);
    if (*ret == REWRAP_FAILED)
        (void)error_pass(err, problem);
    return 0;
}

static bool same_key(const struct record *a, const struct record *b)
{
    return strcmp(a->uuid, b->uuid) == 0 && strcmp(a->tenant, b->tenant) == 0 &&
           strcmp(a->kms, b->kms) == 0 && strcmp(a->key.ciphertext, b->key.ciphertext) == 0;
}

/* Vault was asked without the lock. The record that is there now is the one that changes, so what
 * became of the volume meanwhile stays. */
static int put(const struct rewrap_volume *v, const struct record *asked, const char *ciphertext,
               uint64_t version, enum rewrapped *ret, struct error *err)
{
    AUTO_VOLUME struct volume locked = VOLUME_INIT;
    struct error problem = ERROR_INIT;
    struct record now;

    if (volume_open(v->pool, &v->id, false, &locked, &problem) < 0 ||
        v->pool->ops->read_record(&locked, &now, &problem) < 0)
        return end(&problem, ret, err);
    FAULT_POINT("cofferctl:rewrap:locked");
    if (now.state == RECORD_ERASED || !same_key(&now, asked)) {
        *ret = now.state == RECORD_ERASED ? REWRAP_GONE : REWRAP_BUSY;
        return 0;
    }
    if (str_copy(now.key.ciphertext, sizeof(now.key.ciphertext), ciphertext) < 0)
        return error_set(err, ERR_INTERNAL, "the wrapped key doesn't fit into the record");
    now.key.version = version;
    if (v->pool->ops->write_record(&locked, &now, &problem) < 0)
        return end(&problem, ret, err);
    FAULT_POINT("cofferctl:rewrap:written");
    *ret = REWRAPPED;
    return 0;
}

/* A refusal of this ciphertext says nothing of the others; anything else does. */
static int ask_and_put(const struct key_target *t, const struct ring_key *k,
                       const struct rewrap_volume *v, const struct record *r, enum rewrapped *ret,
                       struct error *err)
{
    char ciphertext[WRAPPED_KEY_MAX + 1];
    struct error problem = ERROR_INIT;
    uint64_t version;

    FAULT_POINT("cofferctl:rewrap:asking");
    if (key_vault_rewrap(t, k, r, ciphertext, &version, &problem) < 0) {
        if (problem.code != ERR_PRECONDITION && problem.code != ERR_NOT_FOUND)
            return error_pass(err, &problem);
        *ret = REWRAP_FAILED;
        (void)error_pass(err, &problem);
        return 0;
    }
    FAULT_POINT("cofferctl:rewrap:asked");
    return put(v, r, ciphertext, version, ret, err);
}

/* With the lock in hand no minted key is on its way to a `minting` record; without it one may be.
 */
static int look_at_create(const struct rewrap_volume *v, struct record *ret_record,
                          enum rewrapped *ret, struct error *err)
{
    AUTO_VOLUME struct volume locked = VOLUME_INIT;
    struct error problem = ERROR_INIT;

    if (volume_open(v->pool, &v->id, false, &locked, &problem) < 0 ||
        v->pool->ops->read_record(&locked, ret_record, &problem) < 0)
        return end(&problem, ret, err);
    *ret = REWRAP_UNFINISHED;
    return 0;
}

int rewrap_one(const struct key_target *t, const struct ring_key *k, uint64_t newest,
               const struct rewrap_volume *v, enum rewrapped *ret, struct error *err)
{
    struct error problem = ERROR_INIT;
    struct record r;

    if (v->pool->ops->peek_record(v->pool, &v->id, &r, &problem) < 0)
        return end(&problem, ret, err);
    if (r.state == RECORD_MINTING && (look_at_create(v, &r, ret, err) < 0 ||
                                      *ret != REWRAP_UNFINISHED || r.state == RECORD_MINTING))
        return 0;
    if (r.state == RECORD_ERASED || strcmp(r.key.kind, "transit") != 0) {
        *ret = REWRAP_GONE;
        return 0;
    }
    if (r.key.version >= newest) {
        *ret = REWRAP_SKIPPED;
        return 0;
    }
    return ask_and_put(t, k, v, &r, ret, err);
}
