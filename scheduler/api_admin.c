/* SPDX-License-Identifier: Apache-2.0 */
/* api_admin.c: what root asks for on the admin socket, and the API's own description. */
#include "common/base.h"
#include "scheduler/api.h"

#include "common/cleanup.h"
#include "scheduler/answer.h"
#include "scheduler/openapi.h"

#define EXPLANATION_MAX KIB(64)

int api_openapi(struct api_call *c, struct error *err UNUSED)
{
    reply_constant(c->reply, "application/json", openapi_text, openapi_len());
    return 0;
}

struct listing {
    struct scheduler *s;
    json_t *list;
    bool told[UNREAD_MAX]; /* of each row of what can't be read: with its cloud */
};

static bool list_one(void *ctx, struct entry *e)
{
    struct listing *l = ctx;
    const struct unread *u = scheduler_unread(l->s, e, e->cloud.id, 0);

    if (u != NULL)
        l->told[u - l->s->unread.items] = true;
    return json_array_append_new(l->list, answer_cloud(e, u)) == 0;
}

/* Clouds that aren't known by anything else. */
static void list_unread(struct listing *l)
{
    const struct unread_list *unread = &l->s->unread;

    for (size_t i = 0; i < unread->n; i++) {
        if (!l->told[i] && !unread_is_node(&unread->items[i]))
            (void)json_array_append_new(l->list, answer_unread(&unread->items[i]));
    }
}

int api_admin_clouds(struct api_call *c, struct error *err)
{
    AUTO_FREE struct listing *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return error_memory(err);
    l->s = c->s;
    l->list = json_array();
    scheduler_lock(c->s);
    cloud_table_each(c->s->table, list_one, l);
    list_unread(l);
    scheduler_unlock(c->s);
    reply_json(c->reply, 200, json_pack("{s:o}", "clouds", l->list));
    return 0;
}

static int explain_locked(struct api_call *c, struct strbuf *to, struct error *err)
{
    const struct entry *e = cloud_table_by_id(c->s->table, c->name);
    const struct place_request r =
        scheduler_place_request(c->s, e != NULL ? e->cloud.node : "", false);
    AUTO_FREE struct place_node *nodes = NULL;

    if (scheduler_is_fresh(c->s, err) < 0 ||
        scheduler_nodes_copy(c->s, c->s->nodes, c->s->n_nodes, NULL, &nodes, err) < 0)
        return -1;
    strbuf_addf(to, "cloud %s: %s\n", c->name, cloud_status_names[answer_status(e)]);
    return place_explain(nodes, c->s->n_nodes, &r, to, err);
}

int api_admin_explain(struct api_call *c, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(EXPLANATION_MAX);
    int rc;

    scheduler_lock(c->s);
    rc = explain_locked(c, &text, err);
    scheduler_unlock(c->s);
    if (rc == 0)
        reply_text(c->reply, 200, "text/plain; charset=utf-8", strbuf_text(&text), text.len);
    return rc;
}

static json_t *node_row(const struct place_node *n)
{
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "name", n->name, "schedulable",
                     (int)n->schedulable, "memory", (json_int_t)n->memory, "memoryUsed",
                     (json_int_t)n->memory_used, "storageFree", (json_int_t)n->storage_free, "vms",
                     (json_int_t)n->vms, "vmsMax", (json_int_t)n->vms_max);
}

int api_admin_nodes(struct api_call *c, struct error *err)
{
    AUTO_FREE struct place_node *nodes = NULL;
    json_t *list;
    size_t n;
    int rc;

    scheduler_lock(c->s);
    n = c->s->n_nodes;
    rc = scheduler_nodes_copy(c->s, c->s->nodes, n, NULL, &nodes, err);
    scheduler_unlock(c->s);
    if (rc < 0)
        return -1;
    list = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(list, node_row(&nodes[i]));
    reply_json(c->reply, 200, json_pack("{s:o}", "nodes", list));
    return 0;
}
