/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

int verb_passphrase(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;

    return session_begin(q, &s, err) < 0 ? -1 : session_give_passphrase(&s, err);
}
