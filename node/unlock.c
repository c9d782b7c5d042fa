/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/unlock.h"

#include "common/blockdev.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "common/leak.h"
#include "common/phases.h"
#include "node/escrow.h"
#include "node/request.h"
#include "node/stage.h"
#include "volume/commitment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

uint64_t unlock_crypt_deadline(void)
{
    return deadline_in(NODE_LIMIT_CRYPT);
}

/* This node's own login is never tried for it, even where Vault would let it. */
static int check_token(const struct node_op *op, struct error *err)
{
    if (!op->record.pod || op->token != NULL)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the key of volume '%s' opens by the token of a pod that uses it "
                     "(tenantIdentity: pod), and here there is none",
                     op->id_text);
}

uint64_t unlock_keyd_deadline(const struct node_op *op)
{
    uint64_t own = deadline_in(NODE_LIMIT_KEYD);

    return op->deadline < own ? op->deadline : own;
}

struct keyd_binding unlock_binding(const struct node_op *op)
{
    return (struct keyd_binding){ .kms = op->record.kms,
                                  .tenant = op->record.tenant,
                                  .volume_id = op->id_text,
                                  .uuid = op->record.uuid };
}

/* One of key and session. */
static int ask_keyd(const struct node_op *op, const struct keyd_wrapped *key,
                    const struct keyd_session *session, enum keyd_use use, int pipe_write,
                    struct error *err)
{
    const struct keyd_binding binding = unlock_binding(op);
    uint64_t deadline = unlock_keyd_deadline(op);

    if (session != NULL)
        return keyd_unwrap_client(op->node->keyd_socket, &binding, session, use, pipe_write,
                                  deadline, err);
    return keyd_unwrap(op->node->keyd_socket, &binding, key, use, op->record.pod ? op->token : NULL,
                       pipe_write, deadline, err);
}

static int key_pipe(struct node_op *op, const struct keyd_wrapped *key,
                    const struct keyd_session *session, enum keyd_use use, int *ret_fd,
                    struct error *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_errno(err, errno, "make a pipe");
    AUTO_CLOSE int read_end = fds[0];
    AUTO_CLOSE int write_end = fds[1];
    uint64_t started = clock_us();
    int result = ask_keyd(op, key, session, use, write_end, err);
    phases_add(op->phases, "unwrap_us", started);
    if (result < 0)
        return -1;
    if (use != KEYD_USE_VERIFY)
        LEAK_PIPE("node:storage-key", read_end);
    *ret_fd = TAKE_FD(read_end);
    return 0;
}

int unlock_wrapped_pipe(struct node_op *op, const struct keyd_wrapped *key, enum keyd_use use,
                        int *ret_fd, struct error *err)
{
    return check_token(op, err) < 0 ? -1 : key_pipe(op, key, NULL, use, ret_fd, err);
}

int unlock_session_pipe(struct node_op *op, const struct keyd_session *session, enum keyd_use use,
                        int *ret_fd, struct error *err)
{
    return key_pipe(op, NULL, session, use, ret_fd, err);
}

static int lent_key_pipe(struct node_op *op, enum keyd_use use, int *ret_fd, struct error *err)
{
    struct keyd_session session = op->session;

    if (request_need_session(op, err) < 0)
        return -1;
    session.commitment = record_commitment(&op->record);
    return unlock_session_pipe(op, &session, use, ret_fd, err);
}

int unlock_key_pipe(struct node_op *op, enum keyd_use use, int *ret_fd, struct error *err)
{
    struct keyd_wrapped key;

    if (record_is_client(&op->record))
        return lent_key_pipe(op, use, ret_fd, err);
    if (keyd_wrapped_of(&op->record, &key, err) < 0)
        return -1;
    return unlock_wrapped_pipe(op, &key, use, ret_fd, err);
}

struct crypt_volume unlock_target(const struct node_op *op, bool read_only)
{
    return (struct crypt_volume){
        .dm_name = op->dm_name,
        .record = &op->record,
        .device_fd = op->device.fd,
        .device = op->device.dev,
        .lock_fd = op->volume.lock_fd,
        .read_only = read_only,
    };
}

/* Only raw block needs a read-only mapping: a read-only bind mount of a device node doesn't stop
 * writes. A file system is mounted read-only over a writable mapping, so that its journal can be
 * replayed. */
static bool wants_read_only(const struct stage *s)
{
    return s->use.read_only && s->use.block;
}

/* One that isn't dead and has another uuid is of another creation of that name: perhaps the last
 * way to somebody's data. It is refused. */
static int close_mapping(struct stage *s, bool dead, struct error *err)
{
    char uuid[DM_UUID_MAX + 1];

    volume_dm_uuid(s->op->record.uuid, s->op->dm_name, uuid);
    return crypt_close(&s->op->node->crypt, s->op->dm_name, dead ? NULL : uuid,
                       s->op->volume.lock_fd, unlock_crypt_deadline(), err);
}

int unlock_refuse_shown(const struct node_op *op, dev_t dev, struct error *err)
{
    AUTO_MOUNT_TABLE struct mount_table table = { .items = NULL, .n = 0 };

    if (mount_table_load(&table, err) < 0)
        return -1;
    for (size_t i = 0; i < table.n; i++) {
        const struct mount_entry *e = &table.items[i];
        if (!mount_lies_on(e, dev) && mount_match(e, dev) == MOUNT_OURS)
            return error_set(err, ERR_ABORTED,
                             "device %u:%u, dead or just made for volume '%s', is still shown at "
                             "'%s': that target must be unpublished first",
                             major(dev), minor(dev), op->id_text, e->point);
    }
    return 0;
}

/* sysfs is asked before a helper is started to list; where it can't say, the helper can. A mapping
 * without a table isn't there: nothing was ever mounted from it, and crypt_open, which looks for
 * its own name, reaps it. */
static bool mapping_may_be_there(const struct node_op *op)
{
    struct error local = ERROR_INIT;
    struct dm_device found;

    return op->record.state != RECORD_READY || dm_device_find(op->dm_name, &found, &local) == 0 ||
           local.code != ERR_NOT_FOUND;
}

/* A mapping that was there before this call: kept when it is right, removed when nothing can be on
 * it. */
static int look_at_existing(struct stage *s, bool *ret_open, struct error *err)
{
    struct node_op *op = s->op;
    AUTO_MAPPING_LIST struct mapping_list list = { .items = NULL, .n = 0 };
    const struct crypt_volume target = unlock_target(op, wants_read_only(s));

    if (!mapping_may_be_there(op))
        return 0;
    if (crypt_list(&op->node->crypt, unlock_crypt_deadline(), &list, err) < 0)
        return -1;
    const struct mapping *m = mapping_find(&list, op->dm_name);
    if (m == NULL)
        return 0;
    /* before `ready` nothing was ever mounted from it; a zombie can't serve anybody */
    if (m->state == MAPPING_ZOMBIE || op->record.state != RECORD_READY) {
        if (unlock_refuse_shown(op, m->dev, err) < 0)
            return -1;
        node_count(op->node, NODE_REAPED);
        return close_mapping(s, m->state == MAPPING_ZOMBIE, err);
    }
    if (m->read_only != target.read_only)
        return error_set(err, ERR_EXISTS, "volume '%s' is already staged %s", op->id_text,
                         m->read_only ? "read-only" : "read-write");
    if (crypt_check(&op->node->crypt, &target, unlock_crypt_deadline(), &op->mapping, err) < 0)
        return -1;
    node_count(op->node, NODE_KEPT);
    *ret_open = true;
    return 0;
}

static int set_state(struct node_op *op, enum record_state state, struct error *err)
{
    struct record r = op->record;

    if (r.state == state)
        return 0;
    r.state = state;
    if (op->pool->ops->write_record(&op->volume, &r, err) < 0)
        return -1;
    op->record = r;
    return 0;
}

static int check_blank(struct node_op *op, struct error *err)
{
    const struct crypt_volume target = unlock_target(op, false);

    return crypt_blank(&op->node->crypt, &target, unlock_crypt_deadline(), err);
}

static int format(struct stage *s, struct error *err)
{
    struct node_op *op = s->op;
    enum record_state stored = op->record.state;
    AUTO_CLOSE int key = -1;

    /* `formatting` allows more than `new` does, so it is written only when nothing can refuse any
     * more: the disk is blank and the key is here. */
    if (stored == RECORD_NEW && check_blank(op, err) < 0)
        return -1;
    if (escrow_recipients(op, s->recipients, err) < 0 ||
        unlock_key_pipe(op, KEYD_USE_STAGE, &key, err) < 0)
        return -1;
    if (set_state(op, RECORD_FORMATTING, err) < 0)
        return -1;
    FAULT_POINT("stage:unlock:formatting");
    struct record ready = op->record;
    ready.state = RECORD_READY;
    memcpy(ready.recipients, s->recipients, sizeof(ready.recipients));
    /* As asked from the start: nothing is made on a raw block volume, and a kill between two
     * mappings would leave one of the wrong mode. */
    struct crypt_volume target = unlock_target(op, wants_read_only(s));
    target.record = &ready;
    uint64_t started = clock_us();
    int r = crypt_format(&op->node->crypt, &target, stored, key, unlock_crypt_deadline(), s->digest,
                         s->mac, &op->mapping, err);
    phases_add(op->phases, "format_us", started);
    return r;
}

static int open_mapping(struct stage *s, struct error *err)
{
    struct node_op *op = s->op;
    const struct crypt_volume target = unlock_target(op, wants_read_only(s));
    AUTO_CLOSE int key = -1;

    if (unlock_key_pipe(op, KEYD_USE_STAGE, &key, err) < 0)
        return -1;
    FAULT_POINT("stage:unlock:key");
    uint64_t started = clock_us();
    int r = crypt_open(&op->node->crypt, &target, key, unlock_crypt_deadline(), &op->mapping, err);
    phases_add(op->phases, "open_us", started);
    return r;
}

/* What NodeExpand left to the first call that brings a token. */
static int grow_mapping(struct node_op *op, struct error *err)
{
    const struct crypt_volume target = unlock_target(op, op->mapping.read_only);
    AUTO_CLOSE int key = -1;

    if (op->pool->ops->refresh(&op->volume, &op->device, err) < 0 ||
        unlock_key_pipe(op, KEYD_USE_EXPAND, &key, err) < 0)
        return -1;
    FAULT_POINT("stage:unlock:resize");
    return crypt_resize(&op->node->crypt, &target, key, unlock_crypt_deadline(), &op->mapping, err);
}

/* That the volume is open already, for another pod, gives this one nothing: Vault has to unwrap the
 * key for its token as well. (The weaker question, what its login may do, is part of that, and
 * costs the same login.) */
static int enter(struct node_op *op, struct error *err)
{
    AUTO_CLOSE int unused = -1;

    if (!op->record.pod)
        return 0;
    if (op->mapping.size < op->record.size)
        return grow_mapping(op, err);
    return unlock_key_pipe(op, KEYD_USE_VERIFY, &unused, err);
}

static int open_node(struct stage *s, struct error *err)
{
    const struct mapping *m = &s->op->mapping;

    return mapper_node_open(s->op->node->device_dir, s->op->dm_name, m->dm_uuid, m->dev,
                            !m->read_only, &s->node, err);
}

/* A step that fails cleans up after itself: a helper that was killed may have left half a mapping.
 */
static int clean_up(struct stage *s, struct error *err)
{
    struct error close_err = ERROR_INIT;

    if (close_mapping(s, false, &close_err) < 0 && close_err.code != ERR_PRECONDITION)
        return error_not_final(err);
    return -1;
}

/* The mapping of a file system that nothing is mounted from is what a killed call left: when this
 * one fails, it goes too. Else a damaged volume would stay open beside who repairs it. */
static bool is_left_over(const struct stage *s)
{
    return s->fs->mount_type != NULL && !s->mounted_before;
}

int unlock_apply(struct stage *s, bool *changed, struct error *err)
{
    bool open = false;

    if (look_at_existing(s, &open, err) < 0 || (open && enter(s->op, err) < 0))
        return -1;
    *changed = open && is_left_over(s);
    if (!open) {
        bool formatted = s->op->record.state != RECORD_READY;
        int r = formatted ? format(s, err) : open_mapping(s, err);
        if (r < 0)
            return clean_up(s, err);
        node_count(s->op->node, formatted ? NODE_FORMATTED : NODE_OPENED);
        *changed = true;
    }
    if ((open || unlock_refuse_shown(s->op, s->op->mapping.dev, err) == 0) &&
        open_node(s, err) == 0)
        return 0;
    if (!*changed)
        return -1;
    *changed = false;
    return clean_up(s, err);
}

int unlock_undo(struct stage *s, struct error *err)
{
    mapper_node_close(&s->node);
    mapper_node_unlink(s->op->node->device_dir, s->op->dm_name);
    return close_mapping(s, false, err);
}
