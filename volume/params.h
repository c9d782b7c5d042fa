/* SPDX-License-Identifier: Apache-2.0 */
/*
 * params.h: StorageClass parameters and the volume_context that follows from them. Strict: any
 * unknown parameter is ERR_INVALID by name; the provisioner's three metadata keys are accepted.
 * Pure; results point into what was passed in.
 */
#ifndef COFFER_VOLUME_PARAMS_H
#define COFFER_VOLUME_PARAMS_H

#include "common/base.h"
#include "common/error.h"
#include "volume/config.h"

struct param {
    const char *key, *value;
};

struct volume_params {
    const struct pool_config *pool; /* borrowed from the config */
    char kms[KMS_NAME_MAX + 1];
    char key_source[16]; /* KEY_SOURCE_... of record.h */
    char tenant[TENANT_MAX + 1];
    bool discard; /* true is refused for a fully allocated pool */
    bool pod;     /* tenantIdentity: pod */
};

/* `pool` may be left out when the configuration has one pool or one named "default". */
int volume_params_decode(const struct config *config, const struct param *params, size_t n,
                         struct volume_params *ret, struct error *err) MUST_CHECK;

/* The keys of volume_context: what Create returns and Stage/Publish send back. */
#define CONTEXT_TENANT     "tenant"
#define CONTEXT_UUID       "uuid"
#define CONTEXT_KMS        "kms"
#define CONTEXT_KEY_SOURCE "keySource"
#define CONTEXT_DISCARD    "discard"        /* "true", or not there */
#define CONTEXT_IDENTITY   "tenantIdentity" /* "pod", or not there */
/* Other keys in a volume_context (csi.storage.k8s.io/…) are ignored. Members point into `items`;
 * NULL = absent. A context that has one of ours says what the absent ones of the last two mean. */
void volume_context_decode(const struct param *items, size_t n, struct record_claim *ret);

#endif
