/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/client.h"

#include "common/strbuf.h"

int keyd_wrapped_of(const struct record *r, struct keyd_wrapped *ret, struct error *err)
{
    struct keyd_wrapped key = { .version = r->key.version };

    if (str_copy(key.kind, sizeof(key.kind), r->key.kind) < 0 ||
        str_copy(key.ciphertext, sizeof(key.ciphertext), r->key.ciphertext) < 0)
        return error_set(err, ERR_DATA_LOSS, "the record's wrapped key is too long");
    *ret = key;
    return 0;
}
