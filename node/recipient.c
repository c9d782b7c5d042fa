/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recipient.c: for whom a volume's storage key is wrapped beside its key service
 * (docs/recipients.md). Adding changes the record alone. Removing makes a new storage key, or the
 * one that was removed would still open the volume. The list is believed only when the storage key
 * proves it. A key that a user's device made comes with each call (keySource client), and what is
 * wrapped of it comes with those that change the list. One audit line for each change, whatever the
 * result.
 */
#include "common/base.h"
#include "node/node.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/parse.h"
#include "node/op.h"
#include "node/recipients.h"
#include "node/rotate.h"
#include "node/unlock.h"
#include "volume/forms.h"

/* ---- the volume and its list ---- */

static int begin(struct node_op *op, struct node *node, struct csi_call *call,
                 const char *volume_id, const struct csi_map *secrets, struct recipient_list *ret,
                 struct error *err)
{
    if (node_op_begin(op, node, call, volume_id, err) < 0 || node_op_lock(op, err) < 0 ||
        node_op_usable(op, err) < 0 || request_session(op, call->arena, secrets, err) < 0)
        return -1;
    if (op->record.state != RECORD_READY)
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' is in state '%s': only one that holds data has recipients",
                         op->id_text, record_state_name(op->record.state));
    return recipients_decode(op->record.recipients, ret, err) < 0 ||
                   op->pool->ops->attach(&op->volume, &op->device, err) < 0
               ? -1
               : 0;
}

static char *base64(struct arena *a, const unsigned char *data, size_t len)
{
    char *text = arena_alloc(a, B64_LEN(len) + 1);

    if (text != NULL)
        b64_encode(text, data, len);
    return text;
}

int recipient_describe(struct arena *a, const struct recipient *r, struct csi_recipient *ret,
                       struct error *err)
{
    *ret = (struct csi_recipient){ .fingerprint = arena_strdup(a, r->fingerprint),
                                   .algorithm = arena_strdup(a, r->algorithm),
                                   .label = arena_strdup(a, r->label),
                                   .public_key = base64(a, r->key, r->key_len),
                                   .wrapped = base64(a, r->wrapped, r->wrapped_len) };
    if (ret->fingerprint != NULL && ret->algorithm != NULL && ret->label != NULL &&
        ret->public_key != NULL && ret->wrapped != NULL)
        return 0;
    return error_memory(err);
}

/* ---- list ---- */

int node_list_recipients(void *ctx, struct csi_call *call,
                         const struct csi_list_recipients_request *req,
                         struct csi_list_recipients_reply *ret, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct recipient_list list;

    if (begin(&op, ctx, call, req->volume_id, &req->secrets, &list, err) < 0 ||
        recipients_prove(&op, err) < 0)
        return -1;
    struct csi_recipient *items = arena_alloc(call->arena, sizeof(*items) * RECIPIENTS_MAX);
    if (items == NULL)
        return error_memory(err);
    for (size_t i = 0; i < list.n; i++) {
        if (recipient_describe(call->arena, &list.items[i], &items[i], err) < 0)
            return -1;
    }
    *ret = (struct csi_list_recipients_reply){ .items = items, .n = list.n };
    return 0;
}

/* ---- add ---- */

static int read_request(const struct csi_add_recipient_request *req, struct recipient *ret,
                        struct error *err)
{
    struct recipient r = { .wrapped_len = 0 };

    if (!recipient_algorithm_known(req->algorithm) ||
        str_copy(r.algorithm, sizeof(r.algorithm), req->algorithm) < 0)
        return error_set(err, ERR_INVALID, "'%.64s' is not an algorithm that wraps keys",
                         req->algorithm);
    if (!recipient_label_valid(req->label) || str_copy(r.label, sizeof(r.label), req->label) < 0)
        return error_set(err, ERR_INVALID,
                         "label must be at most %d bytes of text without control characters",
                         RECIPIENT_LABEL_MAX);
    if (b64_decode(r.key, sizeof(r.key), req->public_key, strlen(req->public_key), &r.key_len) <
            0 ||
        r.key_len == 0)
        return error_set(err, ERR_INVALID,
                         "public_key must be base64 of a SubjectPublicKeyInfo of at most %u bytes",
                         RECIPIENT_KEY_MAX);
    if (req->wrapped[0] != '\0' && b64_decode(r.wrapped, sizeof(r.wrapped), req->wrapped,
                                              strlen(req->wrapped), &r.wrapped_len) < 0)
        return error_set(err, ERR_INVALID, "wrapped must be base64 of at most %u bytes",
                         RECIPIENT_WRAPPED_MAX);
    recipient_fingerprint(r.key, r.key_len, r.fingerprint);
    *ret = r;
    return 0;
}

/* A device that has the key says what it wrapped; of any other key a node sees to that itself. */
static int check_form(const struct node_op *op, const struct recipient *asked, struct error *err)
{
    const bool client = record_is_client(&op->record), has = asked->wrapped_len > 0;

    if (client && !has)
        return error_set(err, ERR_INVALID,
                         "wrapped is missing: the key of volume '%s' was made by the user's device "
                         "(keySource client), which alone can wrap it",
                         op->id_text);
    if (!client && has)
        return error_set(err, ERR_INVALID,
                         "wrapped is for keySource client: the key of volume '%s' is wrapped by "
                         "its node",
                         op->id_text);
    if (!client)
        return 0;
    if (!form_is_der(asked->key, asked->key_len))
        return error_set(err, ERR_INVALID, "public_key is no SubjectPublicKeyInfo in DER");
    return form_fits(asked) ? 0
                            : error_set(err, ERR_INVALID,
                                        "wrapped has %zu bytes, which no key wrapped by %s has",
                                        asked->wrapped_len, asked->algorithm);
}

/* A key has one entry: another algorithm or label for it is another request. */
static int take_present(const struct node_op *op, const struct recipient *there,
                        const struct recipient *asked, struct error *err)
{
    const bool form = asked->wrapped_len == 0 ||
                      (asked->wrapped_len == there->wrapped_len &&
                       memcmp(asked->wrapped, there->wrapped, there->wrapped_len) == 0);

    if (strcmp(there->algorithm, asked->algorithm) == 0 &&
        strcmp(there->label, asked->label) == 0 && form)
        return 0;
    return error_set(
        err, ERR_EXISTS,
        "key %s is a recipient of volume '%s' already, by %s and with the label '%s'%s",
        there->fingerprint, op->id_text, there->algorithm, there->label,
        form ? "" : ", and something else is wrapped for it");
}

static int write_list(struct node_op *op, const struct recipient_list *list, struct error *err)
{
    struct record r = op->record;

    if (recipients_encode(list, r.recipients, err) < 0 ||
        recipients_sign(op, r.recipients, r.mac, err) < 0)
        return -1;
    FAULT_POINT("recipient:signed");
    if (op->pool->ops->write_record(&op->volume, &r, err) < 0)
        return -1;
    op->record = r;
    FAULT_POINT("recipient:written");
    return 0;
}

static int wrap_present_key(struct node_op *op, struct recipient *r, struct error *err)
{
    struct keyd_wrapped key;

    if (record_is_client(&op->record)) /* it came wrapped */
        return 0;
    return keyd_wrapped_of(&op->record, &key, err) < 0 ? -1 : recipient_wrap(op, &key, r, err);
}

static int add(struct node_op *op, struct node *node, struct csi_call *call,
               const struct csi_add_recipient_request *req, struct csi_add_recipient_reply *ret,
               struct error *err)
{
    struct recipient_list list;
    struct recipient asked;

    if (read_request(req, &asked, err) < 0 ||
        begin(op, node, call, req->volume_id, &req->secrets, &list, err) < 0 ||
        check_form(op, &asked, err) < 0)
        return -1;
    const struct recipient *there = recipients_find(&list, asked.fingerprint);
    if (there != NULL) {
        ret->already = true;
        return take_present(op, there, &asked, err) < 0
                   ? -1
                   : recipient_describe(call->arena, there, &ret->recipient, err);
    }
    if (wrap_present_key(op, &asked, err) < 0 || recipients_add(&list, &asked, err) < 0 ||
        write_list(op, &list, err) < 0)
        return -1;
    return recipient_describe(call->arena, &asked, &ret->recipient, err);
}

int node_add_recipient(void *ctx, struct csi_call *call,
                       const struct csi_add_recipient_request *req,
                       struct csi_add_recipient_reply *ret, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct csi_add_recipient_reply reply = { .already = false };
    struct error own = ERROR_INIT;

    int r = add(&op, ctx, call, req, &reply, &own);
    log_audit(KV("action", "add-recipient"), KV("volume_id", req->volume_id),
              KV("tenant", op.record.tenant), KV("reason", req->reason),
              KV("recipient", r == 0 ? reply.recipient.fingerprint : ""),
              KV("already", reply.already), KV("result", error_code_name(own.code)));
    if (r < 0)
        return error_pass(err, &own);
    if (!reply.already)
        node_count(ctx, NODE_RECIPIENTS);
    *ret = reply;
    return 0;
}

/* ---- remove ---- */

/* Nobody but its recipients can open such a volume. */
static int check_last(const struct node_op *op, struct recipient_list *list,
                      const char *fingerprint, struct error *err)
{
    if (!record_is_client(&op->record) || list->n > 1 || recipients_find(list, fingerprint) == NULL)
        return 0;
    return error_set(
        err, ERR_PRECONDITION,
        "key %s is the last recipient of volume '%s', whose key the user's device made "
        "(keySource client): without it nobody could open the volume",
        fingerprint, op->id_text);
}

/* An interrupted removal has the list as it is to be, and old keyslots. One that came to its end
 * with this very new key is answered, when that is lent. */
static int remove_one(struct node_op *op, struct recipient_list *list, const char *fingerprint,
                      const struct new_key *key, bool *ret_resumed, struct error *err)
{
    const struct recipient *member = recipients_find(list, fingerprint);
    const bool stale = op->record.stale_slots, named = rotate_names(op, key);

    *ret_resumed = (stale || named) && member == NULL;
    if (stale && rotate_finish(op, err) < 0)
        return -1;
    if (*ret_resumed)
        return stale ? 0 : recipients_prove(op, err);
    if (member == NULL)
        return error_set(err, ERR_NOT_FOUND, "key %s is no recipient of volume '%s'", fingerprint,
                         op->id_text);
    recipients_remove(list, member);
    return rotate_run(op, list, key, err);
}

static int remove_recipient(struct node_op *op, struct node *node, struct csi_call *call,
                            const struct csi_remove_recipient_request *req,
                            struct csi_rotate_key_reply *ret, struct error *err)
{
    struct recipient_list list;
    struct new_key key;

    if (!hex_lower_valid(req->fingerprint, 64))
        return error_set(err, ERR_INVALID,
                         "fingerprint must be the 64 lower-case hex digits of SHA-256");
    if (begin(op, node, call, req->volume_id, &req->secrets, &list, err) < 0 ||
        request_new_key(op, call->arena, &req->new_secrets, &key, err) < 0 ||
        check_last(op, &list, req->fingerprint, err) < 0 || rotate_check(op, &key, err) < 0 ||
        remove_one(op, &list, req->fingerprint, &key, &ret->resumed, err) < 0)
        return -1;
    ret->key_version = op->record.key.version;
    return 0;
}

int node_remove_recipient(void *ctx, struct csi_call *call,
                          const struct csi_remove_recipient_request *req,
                          struct csi_rotate_key_reply *ret, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct csi_rotate_key_reply reply = { .resumed = false };
    struct error own = ERROR_INIT;

    int r = remove_recipient(&op, ctx, call, req, &reply, &own);
    log_audit(KV("action", "remove-recipient"), KV("volume_id", req->volume_id),
              KV("tenant", op.record.tenant), KV("reason", req->reason),
              KV("recipient", req->fingerprint), KV("resumed", reply.resumed),
              KV("result", error_code_name(own.code)));
    if (r < 0)
        return error_pass(err, &own);
    node_count(ctx, NODE_ROTATED);
    node_count(ctx, NODE_RECIPIENTS);
    *ret = reply;
    return 0;
}
