/* SPDX-License-Identifier: Apache-2.0 */
/* nocrypt.h: coffer-crypt's verbs that make or open a mapping, in a test without dm-crypt: each
 * fails. */
#ifndef COFFER_TESTS_UNIT_NODE_NOCRYPT_H
#define COFFER_TESTS_UNIT_NODE_NOCRYPT_H

#include "common/base.h"
#include "crypt/client.h"

static inline int not_here(struct error *err)
{
    return error_set(err, ERR_INTERNAL, "dm-crypt isn't here");
}

int crypt_blank(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                uint64_t deadline UNUSED, struct error *err)
{
    return not_here(err);
}

int crypt_format(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                 enum record_state stored_state UNUSED, int key_fd UNUSED, uint64_t deadline UNUSED,
                 char ret_digest[65] UNUSED, char ret_mac[65] UNUSED, struct mapping *ret UNUSED,
                 struct error *err)
{
    return not_here(err);
}

int crypt_open(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
               int key_fd UNUSED, uint64_t deadline UNUSED, struct mapping *ret UNUSED,
               struct error *err)
{
    return not_here(err);
}

int crypt_resize(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                 int key_fd UNUSED, uint64_t deadline UNUSED, struct mapping *ret UNUSED,
                 struct error *err)
{
    return not_here(err);
}

#endif
