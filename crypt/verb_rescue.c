/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_rescue.c: the passphrase for who holds a recipient's private key, without any key service.
 * The list of recipients is the record's, so nothing that it leads to is believed before the
 * record's MAC was checked with it, like any other storage key.
 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/secret.h"
#include "crypt/rescue.h"

static int from_recipient(const struct request *q, struct session *s, struct error *err)
{
    AUTO_SECRET struct secret *pem = NULL;
    AUTO_SECRET struct secret *sk = NULL;

    if (rescue_read_private_key(FD_PRIVATE_KEY, q->deadline, &pem, err) < 0 ||
        rescue_storage_key(pem, &q->record, &sk, err) < 0)
        return -1;
    return session_take_key(q, &sk, s, err);
}

int verb_rescue(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;

    return session_begin_by(q, from_recipient, &s, err) < 0 ? -1 : session_give_passphrase(&s, err);
}
