/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "crypt/dm.h"

int verb_check(struct request *q, json_t *reply, struct error *err)
{
    struct mapping m;

    if (dm_inspect(q->name, &m, NULL, err) < 0 || mapping_must_fit(&m, q, err) < 0)
        return -1;
    return reply_mapping(reply, &m, err);
}
