/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/server_key.h"

#include "common/b64.h"
#include "common/strbuf.h"
#include "keyd/client.h"

int server_key_ask(const struct scheduler_config *c, uint64_t deadline,
                   struct cloud_server_key *ret, struct error *err)
{
    struct cloud_server_key key;
    struct keyd_server_key told;

    if (keyd_server_key(c->keyd_socket, c->kms, deadline, &told, err) < 0)
        return -1;
    if (str_copy(key.key_id, sizeof(key.key_id), told.key_id) < 0 ||
        str_copy(key.hash, sizeof(key.hash), told.hash) < 0 ||
        B64_LEN(told.public_key_len) >= sizeof(key.public_key))
        return error_set(err, ERR_INTERNAL, "the key service's public key is too long");
    b64_encode(key.public_key, told.public_key, told.public_key_len);
    *ret = key;
    return 0;
}
