/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/id.h"

#include "common/b64.h"
#include "common/parse.h"

#include <sha256.h>
#include <sys/types.h>

#define TAG_DIGITS     8
#define HASH_DIGITS    32
#define DM_UUID_PREFIX "CRYPT-LUKS2-"

/* 1 to max of [a-z0-9-] */
static bool label_valid(const char *text, size_t max)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return text[len] == '\0' && len >= 1 && len <= max;
}

bool cloud_name_is(const char *csi_name)
{
    return strncmp(csi_name, CLOUD_VOLUME_PREFIX, sizeof(CLOUD_VOLUME_PREFIX) - 1) == 0;
}

bool pool_name_valid(const char *name)
{
    return label_valid(name, POOL_NAME_MAX);
}

bool tenant_valid(const char *name)
{
    return label_valid(name, TENANT_MAX);
}

bool kms_name_valid(const char *name)
{
    return label_valid(name, KMS_NAME_MAX);
}

/* `digits` of lower-case hex, then `end`. */
static bool hex_part(const char *text, size_t digits, char end)
{
    for (size_t i = 0; i < digits; i++)
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
    return text[digits] == end;
}

static void copy_part(char *dst, const char *src, size_t len)
{
    memcpy(dst, src, len);
    dst[len] = '\0';
}

static bool printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    return true;
}

/* The text may be anything a client sends: only a short, printable one is repeated. */
static int not_ours(const char *text, struct error *err)
{
    size_t len = strnlen(text, VOLUME_ID_MAX + 1);

    if (len > VOLUME_ID_MAX || !printable(text, len))
        return error_set(err, ERR_NOT_FOUND, "the volume id is not one of this driver");
    return error_set(err, ERR_NOT_FOUND, "volume id '%s' is not one of this driver", text);
}

int volume_id_parse(const char *text, struct volume_id *ret, struct error *err)
{
    struct volume_id id = { .pool = "" };
    const char *tag, *hash;
    size_t len = strcspn(text, ".");

    if (text[len] != '.' || len > POOL_NAME_MAX)
        return not_ours(text, err);
    tag = text + len + 1;
    if (!hex_part(tag, TAG_DIGITS, '.'))
        return not_ours(text, err);
    hash = tag + TAG_DIGITS + 1;
    if (!hex_part(hash, HASH_DIGITS, '\0'))
        return not_ours(text, err);
    copy_part(id.pool, text, len);
    copy_part(id.pool_tag, tag, TAG_DIGITS);
    copy_part(id.hash, hash, HASH_DIGITS);
    if (!pool_name_valid(id.pool))
        return not_ours(text, err);
    *ret = id;
    return 0;
}

void volume_id_format(const struct volume_id *id, char ret[VOLUME_ID_MAX + 1])
{
    (void)snprintf(ret, VOLUME_ID_MAX + 1, "%s.%s.%s", id->pool, id->pool_tag, id->hash);
}

void volume_id_from_name(const char *pool, const char *pool_tag, const char *csi_name,
                         struct volume_id *ret)
{
    struct volume_id id = { .pool = "" };
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA2_CTX ctx;

    SHA256Init(&ctx);
    SHA256Update(&ctx, (const uint8_t *)csi_name, strlen(csi_name));
    SHA256Final(digest, &ctx);
    (void)snprintf(id.pool, sizeof(id.pool), "%s", pool);
    (void)snprintf(id.pool_tag, sizeof(id.pool_tag), "%s", pool_tag);
    hex_encode(id.hash, digest, HASH_DIGITS / 2);
    *ret = id;
}

void volume_id_dm_name(const struct volume_id *id, char ret[DM_NAME_LEN + 1])
{
    (void)snprintf(ret, DM_NAME_LEN + 1, "coffer-%s-%s", id->hash, id->pool_tag);
}

int volume_dm_name_parse(const char *dm_name, char ret_hash[33], char ret_tag[9])
{
    char hash[33];

    if (strlen(dm_name) != DM_NAME_LEN || strncmp(dm_name, "coffer-", 7) != 0 ||
        dm_name[7 + 32] != '-' || !hex_lower_valid(dm_name + 7 + 33, 8))
        return -1;
    memcpy(hash, dm_name + 7, 32);
    hash[32] = '\0';
    if (!hex_lower_valid(hash, 32))
        return -1;
    memcpy(ret_hash, hash, sizeof(hash));
    memcpy(ret_tag, dm_name + 7 + 33, 9);
    return 0;
}

void volume_dm_uuid(const char *uuid, const char *dm_name, char ret[DM_UUID_MAX + 1])
{
    char hex[33];
    size_t n = 0;

    for (const char *p = uuid; *p != '\0' && n < sizeof(hex) - 1; p++)
        if (*p != '-')
            hex[n++] = *p;
    hex[n] = '\0';
    (void)snprintf(ret, DM_UUID_MAX + 1, DM_UUID_PREFIX "%s-%s", hex, dm_name);
}

int volume_uuid_from_dm(const char *dm_uuid, const char *dm_name, char ret[37])
{
    const char *hex = dm_uuid + strlen(DM_UUID_PREFIX);

    if (strncmp(dm_uuid, DM_UUID_PREFIX, strlen(DM_UUID_PREFIX)) != 0 || !hex_part(hex, 32, '-') ||
        strcmp(hex + 33, dm_name) != 0)
        return -1;
    (void)snprintf(ret, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
                   hex + 20);
    return 0;
}
