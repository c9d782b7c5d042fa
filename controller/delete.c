/* SPDX-License-Identifier: Apache-2.0 */
/* delete.c: DeleteVolume. It needs no key and no key service: the record goes, and the wrapped key
 * with it. */
#include "common/base.h"
#include "controller/controller.h"

#include "common/fault.h"
#include "common/fs.h"

#include <dirent.h>
#include <errno.h>

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
        return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
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
