/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/request.h"

#include "volume/fskind.h"
#include "volume/params.h"

#include <limits.h>
#include <sys/mount.h>

static struct capability plain_capability(const struct csi_capability *in)
{
    return (struct capability){
        .block = in->type == CSI_ACCESS_BLOCK,
        .mode = (unsigned)in->mode,
        .fs_type = in->fs_type,
        .mount_flags = in->mount_flags.items,
        .n_mount_flags = in->mount_flags.n,
        .mount_group = in->volume_mount_group,
    };
}

int request_usage(const struct csi_capability *in, struct usage *ret, struct error *err)
{
    const struct capability c = plain_capability(in);
    struct usage use = { .block = c.block };

    if (capability_check(&c, err) < 0 ||
        (!c.block && capability_mount_options(&c, capability_fs(&c), &use.mount, err) < 0))
        return -1;
    use.read_only = capability_mode_read_only(c.mode) || (use.mount.flags & MS_RDONLY) != 0;
    use.single_target = c.mode == CAPABILITY_SINGLE_NODE_SINGLE_WRITER;
    use.fs = capability_fs(&c);
    *ret = use;
    return 0;
}

static bool plain_part(const char *part, size_t len)
{
    return len > 0 && !(len == 1 && part[0] == '.') &&
           !(len == 2 && part[0] == '.' && part[1] == '.');
}

int request_path(const char *path, const char *field, struct error *err)
{
    if (path[0] != '/' || path[1] == '\0' || strlen(path) >= PATH_MAX)
        return error_set(err, ERR_INVALID, "%s '%.200s' must be an absolute path", field, path);
    for (const char *part = path + 1;; part++) {
        size_t len = strcspn(part, "/");
        if (!plain_part(part, len))
            return error_set(err, ERR_INVALID, "%s '%.200s' must not have empty, '.' or '..' parts",
                             field, path);
        part += len;
        if (*part == '\0')
            return 0;
    }
}

static int need(const char *value, const char *key, struct error *err)
{
    if (value != NULL)
        return 0;
    return error_set(err, ERR_INVALID, "volume_context lacks '%s', which CreateVolume returned",
                     key);
}

static int read_claim(const struct csi_map *context, struct record_claim *ret, struct error *err)
{
    struct param items[64];
    size_t n = 0;

    for (size_t i = 0; i < context->n; i++) {
        if (n == ARRAY_SIZE(items))
            return error_set(err, ERR_INVALID, "volume_context has more than %zu entries", n);
        items[n++] = (struct param){ context->items[i].key, context->items[i].value };
    }
    volume_context_decode(items, n, ret);
    return 0;
}

int request_same_identity(const struct node_op *op, const struct csi_map *context,
                          struct error *err)
{
    struct record_claim claim = { .id = NULL };

    if (read_claim(context, &claim, err) < 0)
        return -1;
    const struct record_claim only = { .identity = claim.identity };
    return record_matches(&op->record, &only, err);
}

int request_claim(const struct node_op *op, const struct csi_map *context, struct error *err)
{
    struct record_claim claim = { .id = NULL };

    if (read_claim(context, &claim, err) < 0)
        return -1;
    if (need(claim.tenant, CONTEXT_TENANT, err) < 0 || need(claim.uuid, CONTEXT_UUID, err) < 0 ||
        need(claim.kms, CONTEXT_KMS, err) < 0 ||
        need(claim.key_source, CONTEXT_KEY_SOURCE, err) < 0)
        return -1;
    claim.id = op->id_text;
    return record_matches(&op->record, &claim, err);
}

static const char *spoken(const char *fs)
{
    return strcmp(fs, FS_KIND_NONE) == 0 ? "raw block" : fs;
}

int request_same_fs(const struct node_op *op, const struct csi_capability *in, struct usage *use,
                    struct error *err)
{
    const struct fs_kind *kind = fs_kind_find(op->record.fs);

    if (strcmp(op->record.fs, use->fs) == 0)
        return 0;
    if (use->block || in->fs_type[0] != '\0' || kind == NULL ||
        strcmp(kind->name, FS_KIND_NONE) == 0)
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' was created as %s and can't be used as %s", op->id_text,
                         spoken(op->record.fs), spoken(use->fs));
    const struct capability c = plain_capability(in);
    if (capability_mount_options(&c, kind->name, &use->mount, err) < 0)
        return -1;
    use->fs = kind->name;
    return 0;
}
