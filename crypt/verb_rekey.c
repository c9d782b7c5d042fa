/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/fault.h"
#include "crypt/header.h"
#include "crypt/keys.h"
#include "crypt/metalock.h"
#include "crypt/rekey.h"
#include "crypt/rewrite.h"

#include <openssl/crypto.h>

/* A key service that keeps one key per volume may have answered with the one there is. */
static int read_new_key(const struct request *q, const struct session *old, struct session *fresh,
                        struct error *err)
{
    if (session_read_key(q, FD_NEW_KEY, fresh, err) < 0)
        return error_prefix(err, "the new key");
    if (CRYPTO_memcmp(secret_data(old->sk), secret_data(fresh->sk), secret_len(old->sk)) == 0)
        return error_set(err, ERR_PRECONDITION, "the new storage key is the present one");
    return 0;
}

/* Whole and flushed before anything is written to the disk: a kill in here finds that as it was. */
static int back_up(const struct luks *checked, struct error *err)
{
    if (header_memfd_save(checked->memfd, FD_OUT, err) < 0)
        return -1;
    FAULT_POINT("crypt:rekey:backup");
    return 0;
}

/* What the disk says now, as every later open will read it. */
static int prove(const struct request *q, const struct session *old, const struct session *fresh,
                 struct error *err)
{
    AUTO_LUKS struct luks now = LUKS_INIT;

    if (luks_load(FD_DEVICE, q->record.uuid, q->record.digest, &now, err) < 0 ||
        luks_verify(&now, old->passphrase, err) < 0)
        return -1;
    return luks_verify(&now, fresh->passphrase, err);
}

static int rekey(struct request *q, struct session *old, struct session *fresh, struct error *err)
{
    AUTO_LUKS struct luks changed = LUKS_INIT;

    if (session_begin(q, old, err) < 0 || read_new_key(q, old, fresh, err) < 0 ||
        luks_verify(&old->luks, old->passphrase, err) < 0 ||
        rekey_add(&old->luks, FD_DEVICE, q->record.uuid, old->passphrase, fresh->passphrase,
                  &changed, err) < 0)
        return -1;
    if (back_up(&old->luks, err) < 0 || rewrite_header(FD_DEVICE, &old->luks, &changed, err) < 0)
        return -1;
    return prove(q, old, fresh, err);
}

int verb_rekey(struct request *q, json_t *reply, struct error *err)
{
    AUTO_METALOCK struct metalock lock = METALOCK_INIT;
    AUTO_SESSION struct session old = SESSION_INIT, fresh = SESSION_INIT;

    if (metalock_take(METALOCK_DIR, q->device, q->deadline, &lock, err) < 0 ||
        rekey(q, &old, &fresh, err) < 0)
        return -1;
    q->record.stale_slots = true;
    memcpy(q->record.recipients, q->recipients, sizeof(q->recipients));
    if (reply_mac(fresh.sk, q, reply, err) < 0)
        return -1;
    FAULT_POINT("crypt:rekey:done");
    return 0;
}
