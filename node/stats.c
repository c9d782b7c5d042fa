/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c: NodeGetVolumeStats: statvfs of the file system, or the size of a raw block volume. */
#include "common/base.h"
#include "node/node.h"

#include "node/mapper.h"
#include "node/mounts.h"

#include <errno.h>
#include <sys/statvfs.h>

/* *ret_block: a device node is there, no file system. */
static int find_path(const char *id, const char *dm_name, const char *path,
                     struct live_mapping *live, bool *ret_block, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };
    const struct mount_entry *entry;

    if (mapper_find(dm_name, live, err) < 0 || mount_table_load(&table, err) < 0)
        return -1;
    entry = mount_table_at(&table, path);
    if (mount_match(entry, live->dev) != MOUNT_OURS)
        return error_set(err, ERR_NOT_FOUND, "volume '%s' isn't mounted at '%.200s'", id, path);
    *ret_block = mount_is_node(entry, dm_name);
    return 0;
}

static int file_system_stats(const char *path, struct csi_stats_reply *ret, struct error *err)
{
    struct statvfs s;

    if (statvfs(path, &s) < 0)
        return error_errno(err, errno, "statvfs '%s'", path);
    ret->usage[0] = (struct csi_usage){ .available = s.f_bavail * s.f_frsize,
                                        .total = s.f_blocks * s.f_frsize,
                                        .used = (s.f_blocks - s.f_bfree) * s.f_frsize,
                                        .unit = 1 };
    ret->n = 1;
    if (s.f_files == 0) /* btrfs has no fixed number of inodes: no figure rather than "all used" */
        return 0;
    ret->usage[1] = (struct csi_usage){
        .available = s.f_favail, .total = s.f_files, .used = s.f_files - s.f_ffree, .unit = 2
    };
    ret->n = 2;
    return 0;
}

/* No lock: kubelet asks each minute beside everything else, and nothing is changed. Nor the record:
 * a pool whose server is dead would keep one more worker each minute, until none was left for any
 * pool. */
int node_get_volume_stats(void *ctx UNUSED, struct csi_call *call,
                          const struct csi_stats_request *req, struct csi_stats_reply *ret,
                          struct error *err)
{
    struct volume_id id;
    char id_text[VOLUME_ID_MAX + 1], dm_name[DM_NAME_LEN + 1];
    struct live_mapping live;
    bool block = false;

    if (volume_id_parse(req->volume_id, &id, err) < 0)
        return -1;
    volume_id_format(&id, id_text);
    volume_id_dm_name(&id, dm_name);
    if (find_path(id_text, dm_name, req->volume_path, &live, &block, err) < 0)
        return -1;
    if (!block)
        return file_system_stats(req->volume_path, ret, err);
    ret->usage[0] = (struct csi_usage){ .total = live.size, .unit = 1 };
    ret->n = 1;
    return 0;
}
