/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/commitment.h"

#include "common/parse.h"

bool commitment_written(const char *ciphertext)
{
    return strncmp(ciphertext, COMMITMENT_PREFIX, strlen(COMMITMENT_PREFIX)) == 0 &&
           hex_lower_valid(ciphertext + strlen(COMMITMENT_PREFIX), COMMITMENT_LEN);
}

const char *record_commitment(const struct record *r)
{
    bool has = strcmp(r->key.kind, KEY_KIND_CLIENT) == 0 && commitment_written(r->key.ciphertext);

    return has ? r->key.ciphertext + strlen(COMMITMENT_PREFIX) : "";
}

int record_commit(struct record *r, const char *commitment, struct error *err)
{
    if (!hex_lower_valid(commitment, COMMITMENT_LEN))
        return error_set(err, ERR_INVALID, "a commitment must be %u lower-case hex digits",
                         COMMITMENT_LEN);
    (void)snprintf(r->key.kind, sizeof(r->key.kind), "%s", KEY_KIND_CLIENT);
    (void)snprintf(r->key.ciphertext, sizeof(r->key.ciphertext), COMMITMENT_PREFIX "%s",
                   commitment);
    r->key.version = 1;
    return 0;
}
