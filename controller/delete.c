/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delete.c: DeleteVolume. The record says `erased` before anything goes, so nothing is opened any
 * more; then the key: what a key service keeps of it is destroyed there (until that has worked
 * there is no going on), the header with its keyslots is overwritten, and the record goes with the
 * wrapped key. Only a key service that keeps keys is needed: Vault's KV engine.
 */
#include "common/base.h"
#include "controller/controller.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/fs.h"
#include "common/log.h"
#include "keyd/client.h"
#include "volume/geometry.h"

#include <dirent.h>
#include <errno.h>

#define DESTROY_LIMIT_MS 30000u

/* ---- in use? ---- */

/* A device may go away between readdir and read. */
static bool is_gone(const struct error *e)
{
    return e->sys_errno == ENOENT || e->sys_errno == ENODEV || e->sys_errno == ENXIO;
}

static int check_device(const char *sysfs, const char *name, const char *prefix, struct error *err)
{
    struct error local = ERROR_INIT;
    char path[512], uuid[256];

    if (snprintf(path, sizeof(path), "%s/%s/dm/uuid", sysfs, name) >= (int)sizeof(path))
        return error_set(err, ERR_INTERNAL, "the name of block device '%.64s' is too long", name);
    if (fs_read_line(path, uuid, sizeof(uuid), &local) < 0)
        return is_gone(&local) ? 0 : error_pass(err, &local);
    if (strncmp(uuid, prefix, strlen(prefix)) != 0)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the volume is in use: it is open on this node as block device %.64s", name);
}

static int check_devices(DIR *d, const char *sysfs, const char *prefix, struct error *err)
{
    const struct dirent *e;

    for (errno = 0; (e = readdir(d)) != NULL; errno = 0) {
        if (e->d_name[0] != '.' && check_device(sysfs, e->d_name, prefix, err) < 0)
            return -1;
    }
    return errno != 0 ? error_errno(err, errno, "read directory '%s'", sysfs) : 0;
}

static int check_not_in_use(const struct controller *c, const struct record *r, struct error *err)
{
    char prefix[DM_UUID_MAX + 1];
    DIR *d = opendir(c->sysfs_block);
    int result;

    if (d == NULL)
        return error_errno(err, errno, "look for open volumes in '%s'", c->sysfs_block);
    volume_dm_uuid(r->uuid, "", prefix);
    result = check_devices(d, c->sysfs_block, prefix, err);
    (void)closedir(d);
    return result;
}

/* ---- erase ---- */

/* Kept beyond the record: also of a volume that was being made, whose record knows no key yet. What
 * the record says can be forged: where the configuration says that the service keeps keys, it is
 * asked all the same. */
bool controller_key_is_kept(const struct controller *c, const struct record *r)
{
    const struct kms_config *kms = config_kms(c->config, r->kms);

    if (strcmp(r->key.kind, "kv") == 0)
        return true;
    return kms == NULL ? r->key.kind[0] == '\0' : kms->kind == KMS_VAULT_KV;
}

static int destroy_key(const struct controller *c, const struct record *r, struct error *err)
{
    const struct keyd_binding b = {
        .kms = r->kms, .tenant = r->tenant, .volume_id = r->id, .uuid = r->uuid
    };

    if (!controller_key_is_kept(c, r))
        return 0;
    if (keyd_destroy(c->keyd_socket, &b, deadline_in(DESTROY_LIMIT_MS), err) < 0)
        return error_prefix(err, "destroy the storage key");
    FAULT_POINT("controller:delete:key-destroyed");
    return 0;
}

/* Best effort: a disk that can't be written must not keep its volume for ever, and what is lost
 * with the key can't be read without the header anyway. */
static void scrub_header(struct volume *v, const struct record *r)
{
    struct error err = ERROR_INIT;

    if (v->pool->ops->scrub(v, GEOMETRY_DATA_OFFSET, &err) < 0)
        log_warn("the header could not be overwritten", KV("volume_id", r->id),
                 KV("error", err.msg));
    FAULT_POINT("controller:delete:scrubbed");
}

int controller_erase(struct controller *c, struct volume *v, struct record *r, struct error *err)
{
    if (check_not_in_use(c, r, err) < 0) {
        (void)atomic_fetch_add(&c->counters.delete_in_use, 1);
        return -1;
    }
    FAULT_POINT("controller:delete:unused");
    if (r->state != RECORD_ERASED) {
        r->state = RECORD_ERASED;
        if (v->pool->ops->write_record(v, r, err) < 0)
            return -1;
    }
    FAULT_POINT("controller:delete:erased");
    if (destroy_key(c, r, err) < 0)
        return -1;
    scrub_header(v, r);
    if (v->pool->ops->remove(v, err) < 0)
        return -1;
    FAULT_POINT("controller:delete:removed");
    return 0;
}

/* ---- the call ---- */

static int read_for_delete(struct volume *v, struct record *ret, struct error *err)
{
    if (v->pool->ops->read_record(v, ret, err) == 0)
        return 0;
    if (err->code == ERR_DATA_LOSS)
        return error_prefix(err, "nothing is deleted, because the record can't be trusted (bring "
                                 "it back, or remove the volume's directory by hand)");
    return -1;
}

static int delete_open(struct controller *c, struct volume *v, struct error *err)
{
    struct error local = ERROR_INIT;
    struct record r;

    if (read_for_delete(v, &r, &local) == 0)
        return controller_erase(c, v, &r, err);
    if (local.code != ERR_NOT_FOUND)
        return error_pass(err, &local);
    /* A create that was killed before its record, or a delete that was killed after it. */
    return v->pool->ops->remove(v, err);
}

/* An id of a pool that this configuration doesn't have isn't absent: nobody has looked. */
static int find_pool(struct controller *c, const struct volume_id *id, struct pool **ret,
                     struct error *err)
{
    if (pool_set_find(c->pools, id->pool) == NULL)
        return error_set(err, ERR_PRECONDITION, "the configuration has no pool '%s'", id->pool);
    return pool_set_for_id(c->pools, id, ret, err);
}

static int delete_locked(struct controller *c, const struct volume_id *id, struct error *err)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error local = ERROR_INIT;
    struct pool *pool;

    if (find_pool(c, id, &pool, err) < 0)
        return -1;
    (void)pool_watch(pool);
    if (volume_open(pool, id, false, &v, &local) < 0)
        return local.code == ERR_NOT_FOUND ? pool->ops->settle_absent(pool, id, err)
                                           : error_pass(err, &local);
    FAULT_POINT("controller:delete:locked");
    if (delete_open(c, &v, err) < 0)
        return -1;
    (void)atomic_fetch_add(&c->counters.deleted, 1);
    return 0;
}

int controller_delete(void *ctx, struct csi_call *call, const struct csi_delete_volume_request *req,
                      struct error *err)
{
    AUTO_KEYLOCK struct keylock_hold *hold = NULL;
    struct error ignored = ERROR_INIT;
    struct volume_id id;

    if (volume_id_parse(req->volume_id, &id, &ignored) < 0)
        return 0; /* no volume of ours ever had that id */
    if (request_lock(ctx, &id, &hold, err) < 0)
        return -1;
    if (delete_locked(ctx, &id, err) < 0)
        return error_prefix(err, "delete volume '%s'", req->volume_id);
    return 0;
}
