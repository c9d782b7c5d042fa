/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

int verb_open(struct request *q, json_t *reply, struct error *err)
{
    AUTO_SESSION struct session s = SESSION_INIT;
    struct mapping m;

    if (session_begin(q, &s, err) < 0 || session_activate(q, &s, &m, err) < 0)
        return -1;
    return reply_mapping(reply, &m, err);
}
