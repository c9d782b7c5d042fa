/* SPDX-License-Identifier: Apache-2.0 */
/* stats.c: NodeGetVolumeStats: statvfs of the file system, or the size of a raw block volume. */
#include "common/base.h"
#include "node/node.h"

#include "common/cleanup.h"
#include "node/mapper.h"
#include "node/mounts.h"
#include "node/op.h"

#include <errno.h>
#include <sys/statvfs.h>

static int find_path(struct node_op *op, const char *path, struct live_mapping *live,
                     struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };

    if (mapper_find(op->dm_name, live, err) < 0 || mount_table_load(&table, err) < 0)
        return -1;
    if (mount_match(mount_table_at(&table, path), live->dev) != MOUNT_OURS)
        return error_set(err, ERR_NOT_FOUND, "volume '%s' isn't mounted at '%.200s'", op->id_text,
                         path);
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

/* No lock: kubelet asks each minute beside everything else, and nothing is changed. */
int node_get_volume_stats(void *ctx, struct csi_call *call, const struct csi_stats_request *req,
                          struct csi_stats_reply *ret, struct error *err)
{
    struct node_op op = NODE_OP_INIT;
    struct live_mapping live;

    op.node = ctx;
    if (volume_id_parse(req->volume_id, &op.id, err) < 0)
        return -1;
    volume_id_format(&op.id, op.id_text);
    volume_id_dm_name(&op.id, op.dm_name);
    if (node_op_peek(&op, err) < 0 || find_path(&op, req->volume_path, &live, err) < 0)
        return -1;
    if (strcmp(op.record.fs, "none") != 0)
        return file_system_stats(req->volume_path, ret, err);
    ret->usage[0] = (struct csi_usage){ .total = live.size, .unit = 1 };
    ret->n = 1;
    return 0;
}
