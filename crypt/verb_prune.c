/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "common/fault.h"
#include "crypt/keys.h"
#include "crypt/metalock.h"
#include "crypt/rekey.h"
#include "crypt/rewrite.h"

/* First nothing names the other keyslots any more, then their areas are overwritten: in whatever
 * order a kill cuts it, each slot that is named is whole. */
static int prune(const struct request *q, struct session *s, struct error *err)
{
    AUTO_LUKS struct luks changed = LUKS_INIT;

    if (session_begin(q, s, err) < 0 ||
        rekey_prune(&s->luks, FD_DEVICE, q->record.uuid, s->passphrase, &changed, err) < 0 ||
        rewrite_header(FD_DEVICE, &s->luks, &changed, err) < 0)
        return -1;
    FAULT_POINT("crypt:prune:metadata");
    return rewrite_unused(FD_DEVICE, &changed.facts, err);
}

int verb_prune(struct request *q, json_t *reply, struct error *err)
{
    AUTO_METALOCK struct metalock lock = METALOCK_INIT;
    AUTO_SESSION struct session s = SESSION_INIT;

    if (metalock_take(METALOCK_DIR, q->device, q->deadline, &lock, err) < 0 ||
        prune(q, &s, err) < 0)
        return -1;
    q->record.stale_slots = false;
    if (reply_mac(s.sk, q, reply, err) < 0)
        return -1;
    FAULT_POINT("crypt:prune:done");
    return 0;
}
