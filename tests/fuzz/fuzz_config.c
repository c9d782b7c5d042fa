/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file: whatever is accepted keeps the promises of volume/config.h.
 *
 * covers: volume/config.c
 */
#include "tests/fuzz/target.h"

#include "volume/config.h"

static void check(const struct config *c)
{
    must(c->n_pools > 0);
    for (size_t i = 0; i < c->n_pools; i++) {
        const struct pool_config *p = &c->pools[i];

        must(pool_name_valid(p->name) && config_pool(c, p->name) == p);
        must(p->path[0] == '/' && strstr(p->path, "/../") == NULL);
        must(p->n_kms >= 1 && p->n_kms <= CONFIG_KMS_PER_POOL);
        must(pool_is_sparse(p) ? p->overcommit >= 1 && p->overcommit <= CONFIG_OVERCOMMIT_MAX
                               : strcmp(p->allocate, "full") == 0 && p->overcommit <= 0);
        for (size_t k = 0; k < p->n_kms; k++)
            must(config_kms(c, p->kms[k]) != NULL && pool_allows_kms(p, p->kms[k]));
    }
    for (size_t i = 0; i < c->n_kms; i++)
        must(strncmp(c->kms[i].uri, "file:///", 8) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_CONFIG struct config *c = NULL;
    struct error err = ERROR_INIT;

    if (config_decode((const char *)data, size, &c, &err) == 0) {
        check(c);
    } else {
        must(c == NULL && err.code == ERR_INVALID);
        must_be_sentence(&err);
    }
    return 0;
}
