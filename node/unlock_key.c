/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unlock_key.c: break-glass. The administrator's cofferctl names a descriptor of its own;
 * coffer-crypt writes the LUKS passphrase there. This process opens the descriptor and never writes
 * to it or reads from it. One audit line, whatever the result.
 */
#include "common/base.h"
#include "node/node.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "node/op.h"
#include "node/unlock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only a pipe or a terminal: a regular file would keep the passphrase. */
static int open_output(uint64_t pid, uint64_t fd, int *ret, struct error *err)
{
    char path[64];
    struct stat st;

    (void)snprintf(path, sizeof(path), "/proc/%llu/fd/%llu", (unsigned long long)pid,
                   (unsigned long long)fd);
    AUTO_CLOSE int out = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (out < 0)
        return error_errno(err, errno, "open the output '%s'", path);
    if (fstat(out, &st) < 0 || !(S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(out))))
        return error_set(err, ERR_INVALID, "the output '%s' must be a pipe or a terminal", path);
    *ret = TAKE_FD(out);
    return 0;
}

static int write_passphrase(struct node_op *op, int out, struct error *err)
{
    AUTO_CLOSE int key = -1;

    if (op->record.state != RECORD_READY)
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' is in state '%s' and has no passphrase yet", op->id_text,
                         record_state_name(op->record.state));
    if (record_is_client(&op->record))
        return error_set(err, ERR_PRECONDITION,
                         "the key of volume '%s' was made by the user's device (keySource client), "
                         "which lends it for mounting alone: there is no passphrase without it",
                         op->id_text);
    if (op->pool->ops->attach(&op->volume, &op->device, err) < 0 ||
        unlock_key_pipe(op, KEYD_USE_BREAK_GLASS, &key, err) < 0)
        return -1;
    const struct crypt_volume target = unlock_target(op, false);
    return crypt_passphrase(&op->node->crypt, &target, key, out, unlock_crypt_deadline(), err);
}

static int unlock_key(struct node_op *op, struct node *node, struct csi_call *call,
                      const struct csi_unlock_key_request *req, struct error *err)
{
    AUTO_CLOSE int out = -1;

    if (node_op_begin(op, node, call, req->volume_id, err) < 0 || node_op_lock(op, err) < 0 ||
        node_op_usable(op, err) < 0 || open_output(req->output_pid, req->output_fd, &out, err) < 0)
        return -1;
    return write_passphrase(op, out, err);
}

int node_unlock_key(void *ctx, struct csi_call *call, const struct csi_unlock_key_request *req,
                    struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct error own = ERROR_INIT;

    if (req->reason[0] == '\0')
        return error_set(err, ERR_INVALID, "reason is required: it goes into the audit line");
    int r = unlock_key(&op, ctx, call, req, &own);
    log_audit(KV("action", "unlock-key"), KV("volume_id", req->volume_id),
              KV("tenant", op.record.tenant), KV("reason", req->reason), KV("pid", req->output_pid),
              KV("result", error_code_name(own.code)));
    if (r == 0)
        node_count(ctx, NODE_BREAK_GLASS);
    else
        (void)error_pass(err, &own);
    return r;
}
