/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/fault.h"

/* The key has to be this volume's, and the list that is replaced the one it was: else whoever may
 * write the pool could have a list of his own signed. */
int verb_recipients(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;

    if (session_begin(q, &s, err) < 0 || luks_verify(&s.luks, s.passphrase, err) < 0)
        return -1;
    memcpy(q->record.recipients, q->recipients, sizeof(q->recipients));
    if (reply_mac(s.sk, q, reply, err) < 0)
        return -1;
    FAULT_POINT("crypt:recipients:done");
    return 0;
}
