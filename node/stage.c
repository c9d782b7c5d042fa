/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/stage.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/phases.h"
#include "common/strbuf.h"
#include "node/in_use.h"
#include "node/request.h"
#include "node/target.h"
#include "node/unlock.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int attach_apply(struct stage *s, bool *changed, struct error *err)
{
    struct node_op *op = s->op;

    if (op->pool->ops->attach(&op->volume, &op->device, err) < 0)
        return -1;
    *changed = op->device.attached_now;
    return 0;
}

/* The device detaches itself when its last user closes it: here, that is us. */
static int attach_undo(struct stage *s, struct error *err)
{
    block_device_close(&s->op->device);
    return 0;
}

static int write_ready(struct stage *s, struct error *err)
{
    struct node_op *op = s->op;
    struct record r = op->record;

    if (fsync(s->node.fd) < 0)
        return error_errno(err, errno, "flush volume '%s'", op->id_text);
    FAULT_POINT("stage:filesystem:flushed");
    r.state = RECORD_READY;
    if (str_copy(r.digest, sizeof(r.digest), s->digest) < 0 ||
        str_copy(r.mac, sizeof(r.mac), s->mac) < 0 ||
        str_copy(r.recipients, sizeof(r.recipients), s->recipients) < 0)
        return error_set(err, ERR_INTERNAL, "digest or mac is too long");
    if (op->pool->ops->write_record(&op->volume, &r, err) < 0)
        return -1;
    op->record = r;
    return 0;
}

/* As the call found it: what the pool has left isn't enough for the repair of a file system. */
static bool is_out_of_space(const struct pool *pool)
{
    return pool_is_sparse(pool->config) && atomic_load(&pool->free) < MIB(16);
}

static struct fs_device fs_device(const struct stage *s)
{
    return (struct fs_device){ .path = s->node.path,
                               .fd = s->node.fd,
                               .lock_fd = s->op->volume.lock_fd,
                               .no_space = is_out_of_space(s->op->pool) };
}

/* The file system is damaged: nothing was repaired, so somebody must be told how. */
static int refuse_damaged(const struct stage *s, struct error *err)
{
    struct error ignored = ERROR_INIT;
    char path[64], source[256];

    /* writes are lost where there is no space: nobody may repair anything now, and it may be no
     * damage */
    if (is_out_of_space(s->op->pool))
        return error_recode(err, ERR_EXHAUSTED);
    /* a device without a file behind it is the volume's bytes itself */
    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/loop/backing_file",
                   major(s->op->device.dev), minor(s->op->device.dev));
    if (fs_read_line(path, source, sizeof(source), &ignored) < 0)
        (void)snprintf(source, sizeof(source), "%s", s->op->device.path);
    return filesystem_advice(s->fs, s->op->id_text, source, err);
}

static int filesystem_apply(struct stage *s, bool *changed, struct error *err)
{
    const struct fs_device d = fs_device(s);

    if (s->op->record.state == RECORD_READY) {
        if (s->fs->check == NULL || s->mounted_before || s->fs->check(&d, err) == 0)
            return 0;
        return err->code == ERR_DATA_LOSS ? refuse_damaged(s, err) : -1;
    }
    if (s->fs->make != NULL && s->fs->make(&d, err) < 0)
        return -1;
    FAULT_POINT("stage:filesystem:made");
    return write_ready(s, err);
}

/* The file system's own options, then the volume's, then the user's: of one that comes twice the
 * last one counts. */
static int mount_data(const struct stage *s, char *ret, size_t size, struct error *err)
{
    const char *const parts[] = {
        s->fs->mount_data,
        pool_is_sparse(s->op->pool->config) ? s->fs->mount_sparse : "",
        s->op->record.discard ? s->fs->mount_discard : "",
        s->use.mount.data,
    };
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(size - 1);

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (parts[i][0] != '\0')
            strbuf_addf(&sb, "%s%s", sb.len > 0 ? "," : "", parts[i]);
    if (strbuf_check(&sb, "mount options", err) < 0)
        return -1;
    return str_copy(ret, size, strbuf_text(&sb)) < 0
               ? error_set(err, ERR_INTERNAL, "mount options are too long")
               : 0;
}

static int mount_apply(struct stage *s, bool *changed, struct error *err)
{
    char data[128];
    const struct mount_options options = {
        .read_only = s->use.read_only,
        .no_symlinks = s->op->record.pod,
        .flags = s->use.mount.flags,
        .data = data,
    };
    AUTO_CLOSE int mount_fd = -1;

    if (s->fs->mount_type == NULL || s->mounted_before)
        return 0;
    if (mount_data(s, data, sizeof(data), err) < 0)
        return -1;
    if (mount_make(s->fs->mount_type, s->node.path, &options, &mount_fd, err) < 0) {
        if (!filesystem_is_damage(err->sys_errno))
            return -1;
        (void)error_recode(err, ERR_DATA_LOSS);
        return refuse_damaged(s, err);
    }
    if (filesystem_verify(s->fs, mount_fd, s->op->mapping.dev, err) < 0 ||
        mount_attach(mount_fd, s->path, err) < 0)
        return -1;
    *changed = true;
    return 0;
}

static int mount_undo(struct stage *s, struct error *err)
{
    return mount_remove(s->path, err);
}

static int grow_apply(struct stage *s, bool *changed, struct error *err)
{
    const struct fs_device d = fs_device(s);
    bool grown = false; /* growing is never undone: it loses nothing */

    if (s->fs->grow == NULL || s->use.read_only || s->failed)
        return 0;
    return filesystem_grow(s->fs, &d, s->op->mapping.dev, s->path, &grown, err);
}

/* Staged by an earlier call, and in use. Of raw block nothing is mounted that would say so: its
 * mapping does, and that it is there in another mode is the request's fault. (NodePublish, which
 * runs this for pods, sees to its own.) */
static bool stays(const struct stage *s, enum error_code code)
{
    return !s->op->record.pod &&
           (s->mounted_before || (s->use.block && code != ERR_EXISTS && in_use(s->op, NULL)));
}

/* Kubelet never calls Unstage after a final error, so nothing may be left; when something is, the
 * answer must be one that it repeats. */
static int roll_back(const struct stage_step *steps, size_t failed, const bool *changed,
                     struct stage *s, struct error *err)
{
    struct error undo_err = ERROR_INIT;

    node_count(s->op->node, NODE_ROLLED_BACK);
    for (size_t i = failed; i-- > 0;) {
        const struct stage_step *step = &steps[i];
        if (!changed[i] || step->undo == NULL || step->undo(s, &undo_err) == 0)
            continue;
        node_count(s->op->node, NODE_ROLL_BACK_FAILED);
        log_warn("roll-back failed", KV("volume_id", s->op->id_text), KV("step", step->name),
                 KV("error", undo_err.msg));
        return error_not_final(err);
    }
    return err != NULL && stays(s, err->code) ? error_not_final(err) : -1;
}

static int apply_step(const struct stage_step *step, struct stage *s, bool *changed,
                      struct error *err)
{
    uint64_t started = clock_us();
    int r = step->apply(s, changed, err);

    phases_add(s->op->phases, step->phase, started);
    return r;
}

int stage_run_steps(const struct stage_step *steps, size_t n, struct stage *s, struct error *err)
{
    bool changed[STAGE_STEPS_MAX] = { false };

    for (size_t i = 0; i < n; i++) {
        const struct stage_step *step = &steps[i];
        FAULT_POINT(step->before);
        if (FAULT_FAIL(step->name))
            (void)error_set(err, ERR_INTERNAL, "injected fault");
        else if (apply_step(step, s, &changed[i], err) == 0) {
            FAULT_POINT(step->after);
            continue;
        }
        error_prefix(err, "stage step '%s'", step->name);
        if (err != NULL &&
            err->code == ERR_NOT_FOUND) /* of a file or device: the volume is there */
            (void)error_recode(err, ERR_INTERNAL);
        return roll_back(steps, i, changed, s, err);
    }
    return 0;
}

#define STEP(step, undo_function)                                                            \
    {                                                                                        \
        .name = #step, .before = "stage:" #step ":before", .after = "stage:" #step ":after", \
        .apply = step##_apply, .undo = (undo_function), .phase = #step "_us",                \
    }

static const struct stage_step stage_steps[] = {
    STEP(attach, attach_undo), STEP(unlock, unlock_undo), STEP(filesystem, NULL),
    STEP(mount, mount_undo),   STEP(grow, NULL),
};

_Static_assert(ARRAY_SIZE(stage_steps) <= STAGE_STEPS_MAX, "stage_run_steps remembers that many");

int stage_run(struct stage *s, struct error *err)
{
    return stage_run_steps(stage_steps, ARRAY_SIZE(stage_steps), s, err);
}

/* Found at the staging path: as asked, or not. Nothing there (or a mount point that is nobody's
 * volume, a test's tmpfs say, over which we mount): then the volume must not be mounted elsewhere,
 * or no unstage could ever tell which of the two is the staging path. */
static int check_mounts(struct stage *s, const struct mount_table *table, dev_t dev,
                        struct error *err)
{
    const struct mount_entry *entry = mount_table_at(table, s->path);

    s->mounted_before = mount_match(entry, dev) == MOUNT_OURS;
    s->failed = s->mounted_before && entry->failed;
    if (s->mounted_before && mount_asked_read_only(entry) != s->use.read_only)
        return error_set(err, ERR_EXISTS, "volume '%s' is already staged %s at '%s'",
                         s->op->id_text, s->use.read_only ? "read-write" : "read-only", s->path);
    for (size_t i = 0; i < table->n && !s->mounted_before && !s->use.block; i++)
        if (mount_match(&table->items[i], dev) == MOUNT_OURS)
            return error_set(err, ERR_PRECONDITION,
                             "volume '%s' is mounted at '%s', but not at its staging path '%s'",
                             s->op->id_text, table->items[i].point, s->path);
    return 0;
}

/* Where a file system is to be mounted that isn't yet. */
static int check_place(const struct stage *s, const struct mount_table *table, struct error *err)
{
    const struct mount_entry *entry = mount_table_at(table, s->path);

    if (s->mounted_before || s->use.block)
        return 0;
    return target_check_staging(s->path, entry != NULL, err);
}

static int check_staged(struct stage *s, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };
    struct live_mapping live;
    struct error find_err = ERROR_INIT;

    if (mount_table_load(&table, err) < 0)
        return -1;
    if (mapper_find(s->op->dm_name, &live, &find_err) == 0) {
        if (check_mounts(s, &table, live.dev, err) < 0)
            return -1;
    } else if (find_err.code != ERR_NOT_FOUND) {
        return error_pass(err, &find_err);
    }
    return check_place(s, &table, err);
}

/* Also replaying a journal and making a file system write. What then looks like damage is to be
 * believed only when there is space again. */
static int note_full_pool(struct node_op *op, struct error *err)
{
    struct error ignored = ERROR_INIT;

    if (err == NULL || !pool_is_sparse(op->pool->config) || pool_ready(op->pool, &ignored) < 0 ||
        pool_watch(op->pool) < POOL_PRESSURE_MAX)
        return -1;
    if (is_out_of_space(op->pool) && err->code == ERR_INTERNAL)
        (void)error_recode(err, ERR_EXHAUSTED);
    return error_prefix(err, "pool '%s' is almost out of space, which may be why",
                        op->pool->config->name);
}

int stage_look(struct stage *s, struct error *err)
{
    s->fs = filesystem_find(s->op->record.fs);
    if (s->fs == NULL)
        return error_set(err, ERR_DATA_LOSS,
                         "the record names file system '%s', which this version doesn't know",
                         s->op->record.fs);
    return check_staged(s, err);
}

int stage_finish(struct stage *s, struct error *err)
{
    int r = stage_run(s, err);

    mapper_node_close(&s->node);
    return r < 0 ? note_full_pool(s->op, err) : 0;
}

static int begin(struct stage *s, struct csi_call *call, const struct csi_stage_request *req,
                 struct error *err)
{
    struct node_op *op = s->op;

    if (node_op_lock(op, err) < 0)
        return -1;
    if (node_op_usable(op, err) < 0) /* what its pool allows has changed, say */
        return in_use(op, NULL) ? error_not_final(err) : -1;
    if (request_claim(op, &req->volume_context, err) < 0)
        return -1;
    /* of a Secret that isn't as it was */
    if (request_session(op, call->arena, &req->secrets, err) < 0)
        return in_use(op, NULL) ? error_not_final(err) : -1;
    return request_same_fs(op, &req->capability, &s->use, err) < 0 ? -1 : stage_look(s, err);
}

/* Of a volume that pods open nothing is opened here: no pod's token comes with this call. */
int node_stage_volume(void *ctx, struct csi_call *call, const struct csi_stage_request *req,
                      struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct stage s = { .op = &op, .path = req->staging_target_path, .node = MAPPER_NODE_INIT };

    if (request_usage(&req->capability, &s.use, err) < 0 ||
        request_path(req->staging_target_path, "staging_target_path", err) < 0 ||
        node_op_begin(&op, ctx, call, req->volume_id, err) < 0)
        return -1;
    if (begin(&s, call, req, err) < 0 || (!op.record.pod && stage_finish(&s, err) < 0))
        return in_use_refuse(&op, NULL, err);
    return 0;
}
