/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h: the one strict JSON file of pools and key services, the same in all binaries. Unknown
 * key, wrong type, unknown backend or kms prefix -> an error that names it. At most 256 KiB, 64
 * pools, 64 key services. The caller frees it with config_free; nothing changes it in between, so
 * any number of threads may read it.
 */
#ifndef COFFER_VOLUME_CONFIG_H
#define COFFER_VOLUME_CONFIG_H

#include "common/base.h"
#include "common/cleanup.h"
#include "common/error.h"
#include "volume/config_kms.h"
#include "volume/id.h"
#include "volume/record.h"

#define CONFIG_KMS_PER_POOL   8
#define CONFIG_OVERCOMMIT_MAX 1000

struct pool_config {
    char name[POOL_NAME_MAX + 1];
    char backend[16];                                /* "file" */
    char path[4096];                                 /* absolute */
    char kms[CONFIG_KMS_PER_POOL][KMS_NAME_MAX + 1]; /* allowed ones; [0] is the default */
    size_t n_kms;
    char allocate[16]; /* "full" or "sparse" */
    char escrow[4096]; /* absolute path of a PEM public key that each new volume gets as a
                          recipient (volume/escrow.h); "": none */
    double overcommit; /* sparse: what all volumes may be promised, in sizes of the pool; else 0 */
};

struct config {
    struct pool_config *pools;
    size_t n_pools;
    struct kms_config *kms;
    size_t n_kms;
    char default_tenant[TENANT_MAX + 1]; /* "" when not configured */
};

int config_load(const char *path, struct config **ret, struct error *err) MUST_CHECK;
int config_decode(const char *text, size_t len, struct config **ret, struct error *err) MUST_CHECK;
void config_free(struct config *c);
const struct pool_config *config_pool(const struct config *c, const char *name); /* NULL: none */
const struct kms_config *config_kms(const struct config *c, const char *name);
bool pool_allows_kms(const struct pool_config *p, const char *kms);
/* Images get their space when it is written to, not when they are made. */
bool pool_is_sparse(const struct pool_config *p);

DEFINE_AUTO(config, config_free)
#define AUTO_CONFIG __attribute__((cleanup(cleanup_config)))

#endif
