/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#include "crypt/header.h"

/* The question format asks first, alone and without a key: it is put before the record's state
 * allows more. */
int verb_blank(struct request *q, json_t *reply, struct error *err)
{
    return header_may_format(FD_DEVICE, q->record.uuid, q->stored_state, err);
}
