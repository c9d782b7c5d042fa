/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/unread.h"

#include "common/strbuf.h"

#define CAP_MIN 16u

void unread_list_clear(struct unread_list *l)
{
    free(l->items);
    *l = (struct unread_list){ .items = NULL };
}

bool unread_is_node(const struct unread *u)
{
    return u->id[0] == '\0' && u->volume[0] == '\0';
}

static int grow(struct unread_list *l, struct error *err)
{
    size_t cap = l->cap > 0 ? l->cap * 2 : CAP_MIN;
    struct unread *grown;

    if (l->n == UNREAD_MAX)
        return error_set(err, ERR_EXHAUSTED, "the facts of more than %u clouds can't be read",
                         UNREAD_MAX);
    grown = realloc(l->items, cap * sizeof(*grown));
    if (grown == NULL)
        return error_memory(err);
    l->items = grown;
    l->cap = cap;
    return 0;
}

int unread_list_add(struct unread_list *l, const struct cloud *c, struct error *err)
{
    struct unread *u;

    if (l->n == l->cap && grow(l, err) < 0)
        return -1;
    u = &l->items[l->n++];
    *u = (struct unread){ .since = 0 };
    memcpy(u->id, c->id, sizeof(u->id));
    memcpy(u->volume, c->volume, sizeof(u->volume));
    memcpy(u->node, c->node, sizeof(u->node));
    memcpy(u->reason, c->reason, sizeof(u->reason));
    return 0;
}

/* ---- from round to round ---- */

static bool is_same(const struct unread *a, const struct unread *b)
{
    return strcmp(a->id, b->id) == 0 && strcmp(a->volume, b->volume) == 0 &&
           strcmp(a->node, b->node) == 0;
}

/* Drivers tell in the same order each time, so the row is mostly where the last one was. */
static const struct unread *same_in(const struct unread_list *l, const struct unread *u,
                                    size_t likely)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct unread *other = &l->items[(likely + i) % l->n];

        if (is_same(other, u))
            return other;
    }
    return NULL;
}

void unread_list_follow(struct unread_list *l, const struct unread_list *before, uint64_t now,
                        bool first, unread_cb *cb, void *ctx)
{
    for (size_t i = 0; i < l->n; i++) {
        struct unread *u = &l->items[i];
        const struct unread *was = same_in(before, u, i);

        u->since = was != NULL ? was->since : now;
        u->never_read = unread_is_node(u) && (was != NULL ? was->never_read : first);
        if (was == NULL && cb != NULL)
            cb(ctx, u, true);
    }
    for (size_t i = 0; i < before->n && cb != NULL; i++) {
        if (same_in(l, &before->items[i], i) == NULL)
            cb(ctx, &before->items[i], false);
    }
}

/* ---- questions ---- */

/* The id that the cloud's volume would have on a node, asked for once per node in a row. */
struct named {
    const char *node;
    bool known;
    char volume[CLOUD_HANDLE_MAX + 1];
};

static void name_on(struct named *n, const struct unread_question *q, const char *node)
{
    struct error why = ERROR_INIT;

    if (n->node != NULL && strcmp(n->node, node) == 0)
        return;
    n->node = node;
    n->known =
        q->ops->names_volumes && q->ops->volume_id(q->driver, q->id, node, n->volume, &why) == 0;
}

static bool is_volume(const struct unread *u, const struct unread_question *q, struct named *named)
{
    if (u->id[0] != '\0')
        return strcmp(u->id, q->id) == 0;
    if (q->volume[0] != '\0')
        return strcmp(u->volume, q->volume) == 0;
    name_on(named, q, u->node);
    return !named->known || strcmp(u->volume, named->volume) == 0;
}

static bool may_have_it(const struct unread *u, const struct unread_question *q)
{
    if (q->node[0] == '\0')
        return u->never_read;
    return strcmp(u->node, q->node) == 0 && (u->never_read || u->since <= q->at);
}

const struct unread *unread_find(const struct unread_list *l, const struct unread_question *q)
{
    struct named named = { .node = NULL };

    for (size_t i = 0; i < l->n; i++) {
        const struct unread *u = &l->items[i];

        if (unread_is_node(u) ? may_have_it(u, q) : is_volume(u, q, &named))
            return u;
    }
    return NULL;
}
