/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/scheduler.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/fs.h"
#include "common/parse.h"
#include "node/describe.h"
#include "node/op.h"
#include "node/request.h"
#include "volume/params.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAGING "staging"
#define VOLUME  "volume"

static struct node *node_of(void *ctx)
{
    const struct scheduler_service *s = ctx;

    return s->node;
}

/* ---- the directory ---- */

int scheduler_directory_check(const char *directory, struct error *err)
{
    return request_path(directory, "--scheduler-directory", err);
}

/* Nobody but this process's user can put anything there. */
static int check_owner(int fd, const char *path, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "look at '%s'", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
        return error_set(err, ERR_PRECONDITION,
                         "'%s' must be a directory of user %u that nobody else may write to", path,
                         (unsigned)geteuid());
    return 0;
}

static int open_directory(const char *path, int *ret_fd, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (fs_open_path(path, &fd, err) < 0 || check_owner(fd, path, err) < 0)
        return -1;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

int scheduler_directory_make(const char *directory, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make --scheduler-directory '%s'", directory);
    if (open_directory(directory, &fd, err) < 0)
        return error_prefix(err, "--scheduler-directory");
    return 0;
}

/* ---- the place of one volume ---- */

/* The part of the path below the directory; NULL: it isn't below it. */
static const char *below(const char *directory, const char *path)
{
    size_t len = strlen(directory);

    return strncmp(path, directory, len) == 0 && path[len] == '/' ? path + len + 1 : NULL;
}

/* "<id>/<last>"; NULL is none. */
static bool take_cloud(const char *rest, const char *last, char ret[CLOUD_ID_LEN + 1])
{
    char id[CLOUD_ID_LEN + 1];

    if (rest == NULL || strlen(rest) != CLOUD_ID_LEN + 1 + strlen(last) ||
        rest[CLOUD_ID_LEN] != '/' || strcmp(rest + CLOUD_ID_LEN + 1, last) != 0)
        return false;
    memcpy(id, rest, CLOUD_ID_LEN);
    id[CLOUD_ID_LEN] = '\0';
    if (!hex_lower_valid(id, CLOUD_ID_LEN))
        return false;
    memcpy(ret, id, sizeof(id));
    return true;
}

/* An id follows from the name, so this needs no record: teardown works without the pool. */
static bool is_volume_of(const char *cloud, const struct volume_id *id)
{
    char name[sizeof(CLOUD_VOLUME_PREFIX) + CLOUD_ID_LEN];
    struct volume_id want;

    (void)snprintf(name, sizeof(name), CLOUD_VOLUME_PREFIX "%s", cloud);
    volume_id_from_name(id->pool, id->pool_tag, name, &want);
    return strcmp(want.hash, id->hash) == 0;
}

int scheduler_place_check(const struct scheduler_service *s, const char *volume_id,
                          const char *path, const char *field, const char *last, struct error *err)
{
    char cloud[CLOUD_ID_LEN + 1];
    struct volume_id id;

    if (request_path(path, field, err) < 0)
        return -1;
    if (!take_cloud(below(s->directory, path), last, cloud))
        return error_set(err, ERR_PERMISSION,
                         "%s '%.200s' isn't '%s/<32 lower-case hex digits>/%s', the one place of a "
                         "volume of coffer-scheduler",
                         field, path, s->directory, last);
    if (volume_id_parse(volume_id, &id, err) < 0)
        return -1;
    if (!is_volume_of(cloud, &id))
        return error_set(err, ERR_PERMISSION, "volume '%s' isn't the one of cloud '%s'", volume_id,
                         cloud);
    return 0;
}

static int make_below(int dir, const char *name, const char *path, struct error *err)
{
    if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make the directory of '%s'", path);
    return 0;
}

/* DIRECTORY/<id> and its staging directory, which of a CSI plugin the caller makes. `path` has
 * passed scheduler_place_check. */
static int make_place(const struct scheduler_service *s, const char *path, struct error *err)
{
    AUTO_CLOSE int dir = -1, place = -1;
    char cloud[CLOUD_ID_LEN + 1];

    if (!take_cloud(below(s->directory, path), STAGING, cloud))
        return error_set(err, ERR_INTERNAL, "'%s' is no place of a cloud", path);
    if (open_directory(s->directory, &dir, err) < 0 || make_below(dir, cloud, path, err) < 0)
        return -1;
    FAULT_POINT("scheduler:place:made");
    place = openat(dir, cloud, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0)
        return error_errno(err, errno, "open the directory of '%s'", path);
    return make_below(place, STAGING, path, err);
}

/* As far as it is empty and nothing is mounted there; what stays is in nobody's way. */
static void remove_place(const struct scheduler_service *s, const char *path)
{
    AUTO_CLOSE int dir = -1;
    struct error ignored = ERROR_INIT;
    const char *rest = below(s->directory, path);
    char cloud[CLOUD_ID_LEN + 1];

    if (open_directory(s->directory, &dir, &ignored) < 0 || !take_cloud(rest, STAGING, cloud))
        return;
    (void)unlinkat(dir, rest, AT_REMOVEDIR);
    (void)unlinkat(dir, cloud, AT_REMOVEDIR);
}

/* ---- whose volume ---- */

static int refuse_volume(const char *volume_id, struct error *err)
{
    return error_set(
        err, ERR_PERMISSION,
        "volume '%.120s' isn't one of coffer-scheduler's: those are named 'cloud-...', "
        "and their keys were made by their users' devices (keySource client)",
        volume_id);
}

static int peek(struct scheduler_service *s, const char *volume_id, struct node_op *op,
                struct error *err)
{
    op->node = s->node;
    if (volume_id_parse(volume_id, &op->id, err) < 0)
        return -1;
    volume_id_format(&op->id, op->id_text);
    return node_op_peek(op, err);
}

/* What kind of volume it is stays for its whole life, so no lock is needed. */
static int check_volume(struct scheduler_service *s, const char *volume_id, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;

    if (peek(s, volume_id, &op, err) < 0)
        return -1;
    return record_is_client(&op.record) && cloud_name_is(op.record.name)
               ? 0
               : refuse_volume(volume_id, err);
}

/* Taking down must also work when the volume is gone; the place has told whose it was. */
static int check_volume_if_there(struct scheduler_service *s, const char *volume_id,
                                 struct error *err)
{
    struct error local = ERROR_INIT;

    if (check_volume(s, volume_id, &local) == 0 || local.code == ERR_NOT_FOUND)
        return 0;
    return error_pass(err, &local);
}

/* NodeStage compares the volume_context with the record, under the volume's lock. */
static bool claims_client(const struct csi_map *context)
{
    for (size_t i = 0; i < context->n; i++) {
        if (strcmp(context->items[i].key, CONTEXT_KEY_SOURCE) == 0)
            return strcmp(context->items[i].value, KEY_SOURCE_CLIENT) == 0;
    }
    return false;
}

/* ---- Identity ---- */

static int get_plugin_info(void *ctx, struct csi_call *call, struct csi_plugin_info *ret,
                           struct error *err)
{
    return node_identity_ops.get_plugin_info(node_of(ctx), call, ret, err);
}

static int get_plugin_capabilities(void *ctx, struct csi_call *call, struct csi_plugin_caps *ret,
                                   struct error *err)
{
    return node_identity_ops.get_plugin_capabilities(node_of(ctx), call, ret, err);
}

static int probe(void *ctx, struct csi_call *call, bool *ret_ready, struct error *err)
{
    return node_identity_ops.probe(node_of(ctx), call, ret_ready, err);
}

const struct csi_identity_ops scheduler_identity_ops = {
    .get_plugin_info = get_plugin_info,
    .get_plugin_capabilities = get_plugin_capabilities,
    .probe = probe,
};

/* ---- Node ---- */

static int stage(void *ctx, struct csi_call *call, const struct csi_stage_request *req,
                 struct error *err)
{
    const struct scheduler_service *s = ctx;

    if (scheduler_place_check(s, req->volume_id, req->staging_target_path, "staging_target_path",
                              STAGING, err) < 0)
        return -1;
    if (req->capability.type != CSI_ACCESS_MOUNT || !claims_client(&req->volume_context))
        return refuse_volume(req->volume_id, err);
    if (make_place(s, req->staging_target_path, err) < 0)
        return -1;
    int r = node_ops.stage_volume(s->node, call, req, err);
    /* another call may be at work there */
    if (r < 0 && err != NULL && err->code != ERR_ABORTED)
        remove_place(s, req->staging_target_path);
    return r;
}

static int unstage(void *ctx, struct csi_call *call, const struct csi_unstage_request *req,
                   struct error *err)
{
    struct scheduler_service *s = ctx;

    if (scheduler_place_check(s, req->volume_id, req->staging_target_path, "staging_target_path",
                              STAGING, err) < 0 ||
        check_volume_if_there(s, req->volume_id, err) < 0 ||
        node_ops.unstage_volume(s->node, call, req, err) < 0)
        return -1;
    FAULT_POINT("scheduler:unstaged");
    remove_place(s, req->staging_target_path);
    return 0;
}

static int publish(void *ctx, struct csi_call *call, const struct csi_publish_request *req,
                   struct error *err)
{
    struct scheduler_service *s = ctx;

    if (scheduler_place_check(s, req->volume_id, req->staging_target_path, "staging_target_path",
                              STAGING, err) < 0 ||
        scheduler_place_check(s, req->volume_id, req->target_path, "target_path", VOLUME, err) <
            0 ||
        check_volume(s, req->volume_id, err) < 0)
        return -1;
    if (req->capability.type != CSI_ACCESS_MOUNT)
        return refuse_volume(req->volume_id, err);
    return node_ops.publish_volume(s->node, call, req, err);
}

static int unpublish(void *ctx, struct csi_call *call, const struct csi_unpublish_request *req,
                     struct error *err)
{
    struct scheduler_service *s = ctx;

    if (scheduler_place_check(s, req->volume_id, req->target_path, "target_path", VOLUME, err) <
            0 ||
        check_volume_if_there(s, req->volume_id, err) < 0)
        return -1;
    return node_ops.unpublish_volume(s->node, call, req, err);
}

static int get_capabilities(void *ctx UNUSED, struct csi_call *call UNUSED,
                            struct csi_node_caps *ret, struct error *err UNUSED)
{
    *ret = (struct csi_node_caps){ .stage_unstage = true };
    return 0;
}

static int get_info(void *ctx, struct csi_call *call, struct csi_node_info *ret, struct error *err)
{
    return node_ops.get_info(node_of(ctx), call, ret, err);
}

const struct csi_node_ops scheduler_node_ops = {
    .stage_volume = stage,
    .unstage_volume = unstage,
    .publish_volume = publish,
    .unpublish_volume = unpublish,
    .get_capabilities = get_capabilities,
    .get_info = get_info,
};

/* ---- NodeAdmin ---- */

static int add_recipient(void *ctx, struct csi_call *call,
                         const struct csi_add_recipient_request *req,
                         struct csi_add_recipient_reply *ret, struct error *err)
{
    return check_volume(ctx, req->volume_id, err) < 0
               ? -1
               : node_admin_ops.add_recipient(node_of(ctx), call, req, ret, err);
}

static int remove_recipient(void *ctx, struct csi_call *call,
                            const struct csi_remove_recipient_request *req,
                            struct csi_rotate_key_reply *ret, struct error *err)
{
    return check_volume(ctx, req->volume_id, err) < 0
               ? -1
               : node_admin_ops.remove_recipient(node_of(ctx), call, req, ret, err);
}

static int list_recipients(void *ctx, struct csi_call *call,
                           const struct csi_list_recipients_request *req,
                           struct csi_list_recipients_reply *ret, struct error *err)
{
    return check_volume(ctx, req->volume_id, err) < 0
               ? -1
               : node_admin_ops.list_recipients(node_of(ctx), call, req, ret, err);
}

static int describe_volumes(void *ctx, struct csi_call *call,
                            const struct csi_describe_request *req, struct csi_describe_reply *ret,
                            struct error *err)
{
    const char *asked = req->name[0] != '\0' ? req->name : req->name_prefix;

    if (!cloud_name_is(asked))
        return error_set(err, ERR_PERMISSION,
                         "coffer-scheduler's volumes are named '" CLOUD_VOLUME_PREFIX
                         "...', and no others are told of here");
    return describe_volumes_of(node_of(ctx), call, req, true, ret, err);
}

const struct csi_admin_ops scheduler_admin_ops = {
    .add_recipient = add_recipient,
    .remove_recipient = remove_recipient,
    .list_recipients = list_recipients,
    .describe_volumes = describe_volumes,
};
