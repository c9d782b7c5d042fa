/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/inline.h"

#include "common/b64.h"
#include "common/deadline.h"
#include "common/parse.h"
#include "node/mapper.h"
#include "node/op.h"
#include "node/request.h"
#include "node/target.h"
#include "volume/commitment.h"
#include "volume/inline.h"
#include "volume/recipients.h"

#include <stdatomic.h>

#define ID_PREFIX "csi-"

/* Kubelet unstages a moment after its pod's volumes are unpublished; this costs a worker. */
#define CLOSING_MS      5000u
#define CLOSING_LOOK_MS 50u
#define CLOSING_MAX     8u /* of all pods: the other workers are for who opens and closes */

struct inline_request {
    struct node *node;
    struct csi_call *call;
    const struct csi_publish_request *req;
    const char *volume, *fingerprint, *wrapped, *commitment; /* "": not given */
    char reason[160];                                        /* for the audit lines */
};

/* "": not given, which is as good as empty here */
static const char *find(const struct csi_map *map, const char *key)
{
    const char *value = csi_map_get(map, key);

    return value != NULL ? value : "";
}

bool inline_is(const struct csi_publish_request *req)
{
    return strcmp(find(&req->volume_context, INLINE_EPHEMERAL), "true") == 0;
}

bool inline_id(const char *volume_id)
{
    return strncmp(volume_id, ID_PREFIX, strlen(ID_PREFIX)) == 0 &&
           hex_lower_valid(volume_id + strlen(ID_PREFIX), 64);
}

/* ---- whose volume, and how it is ---- */

static int not_there(const struct inline_request *r, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND,
                     "namespace '%.63s' has no volume '%.127s' here whose key its user's device "
                     "made",
                     find(&r->req->volume_context, INLINE_NAMESPACE), r->volume);
}

/* The record as it is now, without its lock: unproven, as what DescribeVolumes says. */
static int look(const struct inline_request *r, struct node_op *op, struct error *err)
{
    struct error local = ERROR_INIT;

    op->node = r->node;
    if (volume_id_parse(r->volume, &op->id, err) < 0)
        return -1;
    volume_id_format(&op->id, op->id_text);
    if (node_op_peek(op, &local) < 0)
        return local.code == ERR_NOT_FOUND ? not_there(r, err) : error_pass(err, &local);
    if (!record_is_client(&op->record) ||
        strcmp(op->record.tenant, find(&r->req->volume_context, INLINE_NAMESPACE)) != 0)
        return not_there(r, err);
    return 0;
}

static int list_of(const struct node_op *op, struct recipient_list *ret, struct error *err)
{
    return recipients_decode(op->record.recipients, ret, err) < 0 ? error_recode(err, ERR_DATA_LOSS)
                                                                  : 0;
}

/* Whoever wrote it may have been killed before it was durable, and an answer can't be taken back.
 */
static int settled(const struct node_op *op, struct error *err)
{
    return op->pool->ops->settle(op->pool, err);
}

static int is_added(const struct inline_request *r, bool *ret, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    const struct recipient *there;
    struct recipient_list list;
    char digest[65];

    if (look(r, &op, err) < 0 || list_of(&op, &list, err) < 0)
        return -1;
    there = recipients_find(&list, r->fingerprint);
    *ret = false;
    if (there == NULL)
        return 0;
    recipient_fingerprint(there->wrapped, there->wrapped_len, digest); /* SHA-256 of any bytes */
    *ret = strcmp(digest, r->wrapped) == 0;
    return *ret ? settled(&op, err) : 0;
}

/* ret_stale: old keyslots are still there. */
static int is_removed(const struct inline_request *r, bool *ret, bool *ret_stale, struct error *err)
{
    AUTO_NODE_OP struct node_op op = NODE_OP_INIT;
    struct recipient_list list;

    if (look(r, &op, err) < 0 || list_of(&op, &list, err) < 0)
        return -1;
    *ret = strcmp(record_commitment(&op.record), r->commitment) == 0 &&
           recipients_find(&list, r->fingerprint) == NULL;
    *ret_stale = op.record.stale_slots;
    return *ret ? settled(&op, err) : 0;
}

/* A refusal without a session is the last word on a change, and whoever was asked for it before may
 * still be at it: ABORTED, then. Until the end of the op nobody begins. */
static int hold(const struct inline_request *r, struct node_op *op, struct error *err)
{
    return node_op_begin(op, r->node, r->call, r->volume, err) < 0 ? -1 : node_op_lock(op, err);
}

static bool has_session(const struct inline_request *r)
{
    return find(&r->req->secrets, "session")[0] != '\0';
}

/* ---- add-device ---- */

static int check_digits(const char *text, const char *key, struct error *err)
{
    return hex_lower_valid(text, 64)
               ? 0
               : error_set(err, ERR_INVALID,
                           "volume attribute '%s' must be the 64 lower-case hex digits of SHA-256",
                           key);
}

/* Else the next call couldn't tell that it is done. */
static int check_same_device(const struct inline_request *r, const char *key, const char *form,
                             struct error *err)
{
    unsigned char data[RECIPIENT_KEY_MAX];
    char digest[65];
    size_t len = 0;

    if (b64_decode(data, sizeof(data), key, strlen(key), &len) < 0 || len == 0)
        return error_set(err, ERR_INVALID,
                         "secret '" INLINE_SECRET_KEY
                         "' must be base64 of a SubjectPublicKeyInfo of at most %u bytes",
                         RECIPIENT_KEY_MAX);
    recipient_fingerprint(data, len, digest);
    if (strcmp(digest, r->fingerprint) != 0)
        return error_set(err, ERR_INVALID,
                         "secret '" INLINE_SECRET_KEY "' isn't the key of volume attribute "
                         "'" INLINE_FINGERPRINT "'");
    if (b64_decode(data, sizeof(data), form, strlen(form), &len) < 0 || len == 0)
        return error_set(err, ERR_INVALID,
                         "secret '" INLINE_SECRET_FORM "' must be base64 of at most %u bytes",
                         RECIPIENT_WRAPPED_MAX);
    recipient_fingerprint(data, len, digest);
    return strcmp(digest, r->wrapped) == 0
               ? 0
               : error_set(err, ERR_INVALID,
                           "secret '" INLINE_SECRET_FORM "' isn't what volume attribute "
                           "'" INLINE_WRAPPED "' says");
}

static int add_device(const struct inline_request *r, struct error *err)
{
    const struct csi_map *secrets = &r->req->secrets;
    const struct csi_add_recipient_request add = {
        .volume_id = r->volume,
        .algorithm = find(secrets, INLINE_SECRET_ALGORITHM),
        .label = find(secrets, INLINE_SECRET_LABEL),
        .public_key = find(secrets, INLINE_SECRET_KEY),
        .wrapped = find(secrets, INLINE_SECRET_FORM),
        .reason = r->reason,
        .secrets = *secrets,
    };
    AUTO_NODE_OP struct node_op held = NODE_OP_INIT;
    struct csi_add_recipient_reply reply;
    bool done = false;

    if (check_digits(r->fingerprint, INLINE_FINGERPRINT, err) < 0 ||
        check_digits(r->wrapped, INLINE_WRAPPED, err) < 0 || is_added(r, &done, err) < 0)
        return -1;
    if (!done && !has_session(r) && (hold(r, &held, err) < 0 || is_added(r, &done, err) < 0))
        return -1;
    if (done)
        return 0;
    if (!has_session(r))
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' doesn't have device %s with what was wrapped for it, and no "
                         "session came to add it with",
                         r->volume, r->fingerprint);
    return check_same_device(r, add.public_key, add.wrapped, err) < 0
               ? -1
               : node_add_recipient(r->node, r->call, &add, &reply, err);
}

/* ---- remove-device ---- */

static int run_remove(const struct inline_request *r, struct error *err)
{
    const struct csi_map *secrets = &r->req->secrets;
    const struct csi_pair brought[] = {
        { "commitment", r->commitment },
        { "fingerprint", find(secrets, INLINE_SECRET_NEW_FINGERPRINT) },
        { "recipients", find(secrets, INLINE_SECRET_NEW_RECIPIENTS) },
        { "serverKey", find(secrets, INLINE_SECRET_NEW_SERVER_KEY) },
        { "session", find(secrets, INLINE_SECRET_NEW_SESSION) },
    };
    const struct csi_remove_recipient_request remove = {
        .volume_id = r->volume,
        .fingerprint = r->fingerprint,
        .reason = r->reason,
        .secrets = *secrets,
        .new_secrets = { .items = brought, .n = ARRAY_SIZE(brought) },
    };
    struct csi_rotate_key_reply reply;

    return node_remove_recipient(r->node, r->call, &remove, &reply, err);
}

/* From the record on it is done, and a refusal would say that it isn't: what is left are the old
 * keyslots, for the next call, or for the next one who changes the key. */
static int remove_device(const struct inline_request *r, struct error *err)
{
    AUTO_NODE_OP struct node_op held = NODE_OP_INIT;
    struct error why = ERROR_INIT;
    bool done = false, stale = false;

    if (check_digits(r->fingerprint, INLINE_FINGERPRINT, err) < 0 ||
        check_digits(r->commitment, INLINE_COMMITMENT, err) < 0 ||
        is_removed(r, &done, &stale, err) < 0)
        return -1;
    if (!done && !has_session(r) &&
        (hold(r, &held, err) < 0 || is_removed(r, &done, &stale, err) < 0))
        return -1;
    if (done && (!stale || !has_session(r)))
        return 0;
    if (!has_session(r))
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' has another key than that of commitment %s, or device %s "
                         "still, and no session came to change that with",
                         r->volume, r->commitment, r->fingerprint);
    if (run_remove(r, &why) == 0)
        return 0;
    if (is_removed(r, &done, &stale, err) < 0)
        return -1;
    if (done)
        (void)error_not_final(&why);
    return error_pass(err, &why);
}

/* ---- closed ---- */

static atomic_uint closing; /* calls that wait */

/* Asks the kernel alone: it must be answered when the pool is gone too. */
static int wait_gone(const struct inline_request *r, const char *name, uint64_t end,
                     struct error *err)
{
    struct live_mapping live;
    struct error e = ERROR_INIT;

    while (mapper_find(name, &live, &e) == 0) {
        if (deadline_left(end) == 0 || r->call->cancelled(r->call))
            return error_set(err, ERR_ABORTED, "volume '%s' is still open", r->volume);
        sleep_ms(CLOSING_LOOK_MS);
    }
    return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
}

/* A pod has any number of inline volumes, and whoever finds no room to wait looks once. */
static int wait_closed(const struct inline_request *r, struct error *err)
{
    uint64_t end = deadline_in(CLOSING_MS);
    char name[DM_NAME_LEN + 1];
    struct volume_id id;

    if (volume_id_parse(r->volume, &id, err) < 0)
        return -1;
    volume_id_dm_name(&id, name);
    if (end > r->call->deadline)
        end = r->call->deadline;
    if (atomic_fetch_add(&closing, 1) >= CLOSING_MAX)
        end = 0;
    int rc = wait_gone(r, name, end, err);
    (void)atomic_fetch_sub(&closing, 1);
    return rc;
}

/* ---- the request ---- */

static const struct inline_row {
    const char *action;
    int (*run)(const struct inline_request *r, struct error *err);
} rows[] = {
    { INLINE_ADD, add_device },
    { INLINE_REMOVE, remove_device },
    { INLINE_CLOSED, wait_closed },
};

static int run_row(const struct inline_request *r, struct error *err)
{
    const char *action = find(&r->req->volume_context, INLINE_ACTION);

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        if (strcmp(rows[i].action, action) == 0)
            return rows[i].run(r, err);
    }
    return error_set(err, ERR_INVALID,
                     "volume attribute '" INLINE_ACTION "' must be '" INLINE_ADD
                     "', '" INLINE_REMOVE "' or '" INLINE_CLOSED
                     "': an inline volume is a request to its node, and holds nothing");
}

/* Nothing is mounted at the target: what a pod could write there would be on the node's own disk,
 * beyond its quota, and would keep the pod from ever ending. Of such a volume kubelet lets no
 * container write. */
static int check_read_only(const struct csi_publish_request *req, struct error *err)
{
    return req->readonly ? 0
                         : error_set(err, ERR_INVALID,
                                     "an inline volume is a request to its node, and holds "
                                     "nothing: it must be readOnly: true in the pod");
}

int inline_publish(struct node *node, struct csi_call *call, const struct csi_publish_request *req,
                   struct error *err)
{
    const struct csi_map *said = &req->volume_context;
    struct inline_request r = { .node = node,
                                .call = call,
                                .req = req,
                                .volume = find(said, INLINE_VOLUME),
                                .fingerprint = find(said, INLINE_FINGERPRINT),
                                .wrapped = find(said, INLINE_WRAPPED),
                                .commitment = find(said, INLINE_COMMITMENT) };
    bool made;

    (void)snprintf(r.reason, sizeof(r.reason), "pod %.63s/%.80s", find(said, INLINE_NAMESPACE),
                   find(said, INLINE_POD));
    if (request_path(req->target_path, "target_path", err) < 0 || check_read_only(req, err) < 0 ||
        run_row(&r, err) < 0)
        return -1;
    return target_make(req->target_path, false, &made, err);
}

int inline_unpublish(const struct csi_unpublish_request *req, struct error *err)
{
    return request_path(req->target_path, "target_path", err) < 0
               ? -1
               : target_remove(req->target_path, err);
}
