/* SPDX-License-Identifier: Apache-2.0 */
/*
 * id.h: a volume's id: "<pool>.<8 hex of the pool's random id>.<32 hex>", the last part being the
 * first 128 bits of SHA-256 over the CSI name: CreateVolume is idempotent without an index. Parsing
 * is exact: an id that doesn't have this form belongs to no volume of ours. Plain value type; pure.
 */
#ifndef COFFER_VOLUME_ID_H
#define COFFER_VOLUME_ID_H

#include "common/base.h"
#include "common/error.h"

#define POOL_NAME_MAX 24
#define TENANT_MAX    63 /* a Kubernetes namespace */
#define KMS_NAME_MAX  63
#define CLOUD_VOLUME_PREFIX                                                           \
    "cloud-"             /* the CSI name of a cloud's volume: this and the cloud's id \
                          */
#define CLOUD_ID_LEN  32 /* lower-case hex: scheduler/cloud.h */
#define VOLUME_ID_MAX (POOL_NAME_MAX + 1 + 8 + 1 + 32)
#define DM_NAME_LEN   (7 + 32 + 1 + 8)            /* coffer-<32 hex>-<8 hex> */
#define DM_UUID_MAX   (12 + 32 + 1 + DM_NAME_LEN) /* CRYPT-LUKS2-<32 hex>-<name> */

struct volume_id {
    char pool[POOL_NAME_MAX + 1];
    char pool_tag[9];
    char hash[33];
};

bool cloud_name_is(const char *csi_name); /* it begins with CLOUD_VOLUME_PREFIX */
bool pool_name_valid(const char *name);   /* 1 to POOL_NAME_MAX of [a-z0-9-] */
bool tenant_valid(const char *name);      /* the same, to TENANT_MAX */
bool kms_name_valid(const char *name);    /* the same, to KMS_NAME_MAX */
/* ERR_NOT_FOUND on anything that is not an id of ours. */
int volume_id_parse(const char *text, struct volume_id *ret, struct error *err) MUST_CHECK;
void volume_id_format(const struct volume_id *id, char ret[VOLUME_ID_MAX + 1]);
void volume_id_from_name(const char *pool, const char *pool_tag, const char *csi_name,
                         struct volume_id *ret);
void volume_id_dm_name(const struct volume_id *id, char ret[DM_NAME_LEN + 1]);
/* The other way, exactly; -1 when it is no such name. It doesn't hold the pool's name. */
int volume_dm_name_parse(const char *dm_name, char ret_hash[33], char ret_tag[9]) MUST_CHECK;
/* "CRYPT-LUKS2-<uuid without dashes>-<dm name>" */
void volume_dm_uuid(const char *uuid, const char *dm_name, char ret[DM_UUID_MAX + 1]);
/* The uuid inside a dm uuid of that dm name; -1 when it isn't one. */
int volume_uuid_from_dm(const char *dm_uuid, const char *dm_name, char ret[37]) MUST_CHECK;

#endif
