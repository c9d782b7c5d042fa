/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/escrow.h"

#include "node/rotate.h"
#include "node/unlock.h"
#include "volume/escrow.h"

/* What this node's own login can't open, it can't wrap either. */
static int check_kind(const struct record *r, struct error *err)
{
    if (r->pod)
        return error_set(err, ERR_PRECONDITION,
                         "pods' own tokens open volume '%s' (tenantIdentity: pod), not this node's "
                         "login",
                         r->id);
    if (strcmp(r->key_source, "vault") != 0)
        return error_set(err, ERR_PRECONDITION,
                         "the key of volume '%s' is made by its user's device (keySource: %s)",
                         r->id, r->key_source);
    return 0;
}

static int add(struct node_op *op, const char *path, struct recipient_list *list, struct error *err)
{
    struct recipient escrow;
    struct keyd_wrapped key;

    if (check_kind(&op->record, err) < 0 || escrow_read(path, &escrow, err) < 0 ||
        keyd_wrapped_of(&op->record, &key, err) < 0 || recipient_wrap(op, &key, &escrow, err) < 0)
        return -1;
    return recipients_add(list, &escrow, err);
}

/* What asking again doesn't mend isn't the request's fault: the pool's settings are. */
static int explain(const struct node_op *op, struct error *err)
{
    if (err != NULL && err->code == ERR_INVALID)
        (void)error_recode(err, ERR_PRECONDITION);
    return error_prefix(err, "pool '%s' has an escrow key, and volume '%s' isn't formatted without",
                        op->pool->config->name, op->id_text);
}

int escrow_recipients(struct node_op *op, char ret[RECIPIENTS_TEXT_MAX + 1], struct error *err)
{
    const char *path = op->pool->config->escrow;
    AUTO_FREE struct recipient_list *list = NULL;

    if (path[0] == '\0') {
        memcpy(ret, op->record.recipients, sizeof(op->record.recipients));
        return 0;
    }
    list = calloc(1, sizeof(*list));
    if (list == NULL)
        return error_memory(err);
    if (recipients_decode(op->record.recipients, list, err) < 0 || add(op, path, list, err) < 0 ||
        recipients_encode(list, ret, err) < 0)
        return explain(op, err);
    return 0;
}
