/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotate_key.c: a new storage key for one volume (docs/rekey.md). It is wrapped for the volume's
 * recipients, or a user's device made it and did that; the header gets a keyslot for the new key
 * beside the old one's; the record is written, and from then on the new key is the volume's; the
 * old keyslots go. So whatever kills it, the key that the record names opens the volume. A record
 * that says staleSlots has the last part still to come, and a rotation of it is that part alone.
 * Data, volume key and live mapping are not touched. One audit line, whatever the result.
 */
#include "common/base.h"
#include "node/node.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fault.h"
#include "common/log.h"
#include "node/op.h"
#include "node/rotate.h"
#include "node/unlock.h"
#include "volume/commitment.h"
#include "volume/forms.h"

int rotate_check(const struct node_op *op, const struct new_key *key, struct error *err)
{
    const struct record *r = &op->record;

    if (r->state != RECORD_READY)
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' is in state '%s': only the key of one that holds data is "
                         "rotated",
                         op->id_text, record_state_name(r->state));
    if (record_is_client(r) && !key->given && !r->stale_slots)
        return error_set(err, ERR_PRECONDITION,
                         "the key of volume '%s' was made by the user's device (keySource client), "
                         "which alone can make another one: it can't be replaced without new "
                         "secrets",
                         op->id_text);
    if (strcmp(r->key.kind, "kv") == 0 && !r->stale_slots)
        return error_set(err, ERR_PRECONDITION,
                         "the key of volume '%s' is stored in Vault itself (hcvault+kv), where a "
                         "volume has one key for its life: it can't be rotated",
                         op->id_text);
    return 0;
}

static int mint(struct node_op *op, struct keyd_wrapped *ret, struct error *err)
{
    const struct keyd_binding binding = unlock_binding(op);
    struct error local = ERROR_INIT;

    if (keyd_mint(op->node->keyd_socket, &binding, unlock_keyd_deadline(op), ret, &local) == 0)
        return 0;
    if (local.code == ERR_PERMISSION)
        (void)error_prefix(&local, "this node may not make a key (to rotate, its coffer-keyd needs "
                                   "--allow MINT,UNWRAP and Vault's policy for that)");
    return error_pass(err, &local);
}

int recipient_wrap(struct node_op *op, const struct keyd_wrapped *key, struct recipient *r,
                   struct error *err)
{
    const struct keyd_binding binding = unlock_binding(op);
    const struct keyd_recipient to = { .algorithm = r->algorithm,
                                       .key = r->key,
                                       .key_len = r->key_len };
    struct error local = ERROR_INIT;

    if (keyd_wrap_for(op->node->keyd_socket, &binding, key, &to, unlock_keyd_deadline(op),
                      r->wrapped, &r->wrapped_len, &local) == 0)
        return 0;
    if (local.code == ERR_PERMISSION)
        (void)error_prefix(&local, "this node may not wrap a key for recipients (its coffer-keyd "
                                   "needs --allow UNWRAP,WRAP_FOR)");
    return error_pass(err, &local);
}

static int wrap_all(struct node_op *op, const struct keyd_wrapped *key, struct recipient_list *list,
                    struct error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (recipient_wrap(op, key, &list->items[i], err) < 0)
            return -1;
    }
    return 0;
}

/* A key that a device made is wrapped already. */
static int take_new_key(const struct node_op *op, const struct new_key *key,
                        struct recipient_list *stay, struct keyd_wrapped *ret, struct error *err)
{
    if (strcmp(key->session.commitment, record_commitment(&op->record)) == 0)
        return error_set(err, ERR_INVALID, "the new key is the one that volume '%s' has already",
                         op->id_text);
    if (recipients_find(stay, key->session.fingerprint) == NULL)
        return error_set(err, ERR_INVALID,
                         "new secret 'fingerprint' is of none that stays a recipient: who is "
                         "removed can't make the new key");
    if (forms_take(key->forms, stay, err) < 0)
        return error_prefix(err, "new secret 'recipients'");
    struct record named = op->record;
    return record_commit(&named, key->session.commitment, err) < 0
               ? -1
               : keyd_wrapped_of(&named, ret, err);
}

static int make_key(struct node_op *op, const struct new_key *key, struct recipient_list *stay,
                    struct keyd_wrapped *ret, struct error *err)
{
    if (key->given)
        return take_new_key(op, key, stay, ret, err);
    return mint(op, ret, err) < 0 ? -1 : wrap_all(op, ret, stay, err);
}

static int new_key_pipe(struct node_op *op, const struct new_key *key,
                        const struct keyd_wrapped *fresh, int *ret_fd, struct error *err)
{
    if (!key->given)
        return unlock_wrapped_pipe(op, fresh, KEYD_USE_ROTATE, ret_fd, err);
    if (unlock_session_pipe(op, &key->session, KEYD_USE_ROTATE, ret_fd, err) < 0)
        return error_prefix(err, "the new key");
    return 0;
}

bool rotate_names(struct node_op *op, const struct new_key *key)
{
    if (!key->given || strcmp(key->session.commitment, record_commitment(&op->record)) != 0)
        return false;
    op->session = key->session;
    op->has_session = true;
    return true;
}

/* Replaces key, recipients, MAC and mark in one write: before it the old key opens the volume,
 * after it the new one does. */
static int write_record(struct node_op *op, const struct keyd_wrapped *key, const char *recipients,
                        const char *mac, bool stale, struct error *err)
{
    struct record r = op->record;

    r.stale_slots = stale;
    if (str_copy(r.mac, sizeof(r.mac), mac) < 0 ||
        str_copy(r.recipients, sizeof(r.recipients), recipients) < 0 ||
        (key != NULL &&
         (str_copy(r.key.kind, sizeof(r.key.kind), key->kind) < 0 ||
          str_copy(r.key.ciphertext, sizeof(r.key.ciphertext), key->ciphertext) < 0)))
        return error_set(err, ERR_INTERNAL, "the new wrapped key is too long");
    if (key != NULL)
        r.key.version = key->version;
    if (op->pool->ops->write_record(&op->volume, &r, err) < 0)
        return -1;
    op->record = r;
    return 0;
}

static int add_key(struct node_op *op, struct recipient_list *stay, const struct new_key *key,
                   struct error *err)
{
    char recipients[RECIPIENTS_TEXT_MAX + 1];
    const struct crypt_volume target = unlock_target(op, false);
    AUTO_CLOSE int old_key = -1, new_key = -1, backup = -1;
    struct keyd_wrapped fresh;
    char mac[65];

    if (make_key(op, key, stay, &fresh, err) < 0 || recipients_encode(stay, recipients, err) < 0 ||
        unlock_key_pipe(op, KEYD_USE_ROTATE, &old_key, err) < 0 ||
        new_key_pipe(op, key, &fresh, &new_key, err) < 0 ||
        op->pool->ops->header_backup(&op->volume, &backup, err) < 0)
        return -1;
    FAULT_POINT("rotate-key:keys");
    if (crypt_rekey(&op->node->crypt, &target, old_key, new_key, backup, recipients,
                    unlock_crypt_deadline(), mac, err) < 0)
        return -1;
    FAULT_POINT("rotate-key:rekeyed");
    if (write_record(op, &fresh, recipients, mac, true, err) < 0)
        return -1;
    (void)rotate_names(op, key);
    FAULT_POINT("rotate-key:recorded");
    return 0;
}

static int drop_old_keys(struct node_op *op, struct error *err)
{
    const struct crypt_volume target = unlock_target(op, false);
    AUTO_CLOSE int key = -1;
    char mac[65];

    if (unlock_key_pipe(op, KEYD_USE_ROTATE, &key, err) < 0 ||
        crypt_prune(&op->node->crypt, &target, key, unlock_crypt_deadline(), mac, err) < 0)
        return -1;
    FAULT_POINT("rotate-key:pruned");
    if (op->pool->ops->drop_header_backup(&op->volume, err) < 0)
        return -1;
    FAULT_POINT("rotate-key:backup-dropped");
    if (write_record(op, NULL, op->record.recipients, mac, false, err) < 0)
        return -1;
    FAULT_POINT("rotate-key:done");
    return 0;
}

int rotate_finish(struct node_op *op, struct error *err)
{
    if (drop_old_keys(op, err) == 0)
        return 0;
    return error_prefix(err, "the volume has its new key, but the old keyslots are still there "
                             "(run it again)");
}

int recipients_sign(struct node_op *op, const char *recipients, char ret_mac[65], struct error *err)
{
    const struct crypt_volume target = unlock_target(op, false);
    AUTO_CLOSE int key = -1;

    if (unlock_key_pipe(op, KEYD_USE_RECIPIENT, &key, err) < 0)
        return -1;
    return crypt_recipients(&op->node->crypt, &target, key, recipients, unlock_crypt_deadline(),
                            ret_mac, err);
}

int recipients_prove(struct node_op *op, struct error *err)
{
    char mac[65];

    return recipients_sign(op, op->record.recipients, mac, err);
}

int rotate_run(struct node_op *op, struct recipient_list *stay, const struct new_key *key,
               struct error *err)
{
    /* before a key is wrapped for anybody: whom the record names may be somebody else's doing */
    if (op->record.recipients[0] != '\0' && recipients_prove(op, err) < 0)
        return -1;
    if (add_key(op, stay, key, err) < 0)
        return -1;
    return rotate_finish(op, err);
}

static int rotate(struct node_op *op, const struct new_key *key, struct csi_rotate_key_reply *ret,
                  struct error *err)
{
    struct recipient_list all;

    if (rotate_check(op, key, err) < 0 || recipients_decode(op->record.recipients, &all, err) < 0 ||
        op->pool->ops->attach(&op->volume, &op->device, err) < 0)
        return -1;
    ret->resumed = op->record.stale_slots;
    (void)rotate_names(op, key);
    if ((ret->resumed ? rotate_finish(op, err) : rotate_run(op, &all, key, err)) < 0)
        return -1;
    ret->key_version = op->record.key.version;
    return 0;
}

static int run(struct node_op *op, struct node *node, struct csi_call *call,
               const struct csi_rotate_key_request *req, struct csi_rotate_key_reply *ret,
               struct error *err)
{
    struct new_key key;

    if (node_op_begin(op, node, call, req->volume_id, err) < 0 || node_op_lock(op, err) < 0 ||
        node_op_usable(op, err) < 0 || request_session(op, call->arena, &req->secrets, err) < 0 ||
        request_new_key(op, call->arena, &req->new_secrets, &key, err) < 0)
        return -1;
    return rotate(op, &key, ret, err);
}

int node_rotate_key(void *ctx, struct csi_call *call, const struct csi_rotate_key_request *req,
                    struct csi_rotate_key_reply *ret, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct csi_rotate_key_reply reply = { .resumed = false };
    struct error own = ERROR_INIT;

    int r = run(&op, ctx, call, req, &reply, &own);
    log_audit(KV("action", "rotate-key"), KV("volume_id", req->volume_id),
              KV("tenant", op.record.tenant), KV("reason", req->reason),
              KV("resumed", reply.resumed), KV("result", error_code_name(own.code)));
    if (r < 0)
        return error_pass(err, &own);
    node_count(ctx, NODE_ROTATED);
    *ret = reply;
    return 0;
}
