/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/scheduler.h"

#include "common/cleanup.h"

/* What an operation will take of its node, until its VM is one of the driver's figures: in its last
 * step. */
static bool takes_memory(const struct operation *op)
{
    return op->placed && !op->undoing && op->step + 1 < op->row->n_steps;
}

static bool takes_storage(const struct operation *op)
{
    return op->placed && !op->undoing && op->kind == OPERATION_CREATE && op->step <= 1;
}

struct taking {
    struct place_node *nodes;
    size_t n;
    const struct scheduler_config *config;
    const struct operation *without;
};

static bool take_of_one(void *ctx, struct entry *e)
{
    struct taking *t = ctx;
    const struct operation *op = e->op;

    if (op == NULL || op == t->without || !takes_memory(op))
        return true;
    for (size_t i = 0; i < t->n; i++) {
        struct place_node *node = &t->nodes[i];

        if (strcmp(node->name, op->node) != 0)
            continue;
        node->memory_used += t->config->memory;
        node->vms++;
        if (takes_storage(op))
            node->storage_free -=
                t->config->size < node->storage_free ? t->config->size : node->storage_free;
    }
    return true;
}

int scheduler_nodes_copy(struct scheduler *s, const struct place_node *nodes, size_t n,
                         const struct operation *without, struct place_node **ret,
                         struct error *err)
{
    struct taking t = { .n = n, .config = s->config, .without = without };

    t.nodes = calloc(n + 1, sizeof(*nodes));
    if (t.nodes == NULL)
        return error_memory(err);
    if (n > 0)
        memcpy(t.nodes, nodes, n * sizeof(*nodes));
    if (s->n_operations > 0)
        cloud_table_each(s->table, take_of_one, &t);
    *ret = t.nodes;
    return 0;
}

struct place_request scheduler_place_request(const struct scheduler *s, const char *volume_node,
                                             bool spread)
{
    return (struct place_request){ .volume_node = volume_node,
                                   .memory = s->config->memory,
                                   .storage = s->config->size,
                                   .headroom_percent = s->config->headroom_percent,
                                   .spread = spread || s->config->spread };
}

int scheduler_may_grow(const struct scheduler *s, struct error *err)
{
    const uint64_t most = s->config->clouds_max;

    if (most == 0 || cloud_table_size(s->table) < most)
        return 0;
    return error_set(err, ERR_EXHAUSTED, "there are as many clouds as there may be");
}

int scheduler_place_new(struct scheduler *s, const char *id, bool spread,
                        char node[NODE_NAME_MAX + 1], char volume[CLOUD_HANDLE_MAX + 1],
                        struct error *err)
{
    const struct place_request r = scheduler_place_request(s, "", spread);
    AUTO_FREE struct place_node *nodes = NULL;
    size_t best = 0;

    if (scheduler_nodes_copy(s, s->nodes, s->n_nodes, NULL, &nodes, err) < 0 ||
        place(nodes, s->n_nodes, &r, &best, err) < 0 ||
        s->config->driver->volume_id(s->driver, id, nodes[best].name, volume, err) < 0)
        return -1;
    return str_copy(node, NODE_NAME_MAX + 1, nodes[best].name) < 0
               ? error_set(err, ERR_INTERNAL, "a node's name is too long")
               : 0;
}

int scheduler_node_of(struct scheduler *s, const char *id, const char *volume,
                      char node[NODE_NAME_MAX + 1], struct error *err)
{
    char found[CLOUD_HANDLE_MAX + 1];

    for (size_t i = 0; i < s->n_nodes; i++) {
        if (s->config->driver->volume_id(s->driver, id, s->nodes[i].name, found, err) < 0)
            return -1;
        if (strcmp(found, volume) == 0)
            return str_copy(node, NODE_NAME_MAX + 1, s->nodes[i].name);
    }
    return error_set(err, ERR_NOT_FOUND, "no node would have that volume");
}

/* Where it is, or is to be. What an older create with another key left, which never became a
 * volume, isn't gone on with: its node may be gone too. */
static const char *node_of(const struct operation *op)
{
    const struct cloud *c = &op->cloud;

    if (c->volume[0] == '\0' && op->input.uuid != NULL && strcmp(c->uuid, op->input.uuid) != 0)
        return "";
    return c->node;
}

/* Where the volume is, it is; a node that the request named is kept when a new cloud fits there. */
static int place_locked(struct scheduler *s, struct operation *op, const struct place_node *now,
                        size_t n, struct error *err)
{
    const char *at = node_of(op);
    struct place_request r = scheduler_place_request(s, at, op->spread);
    AUTO_FREE struct place_node *nodes = NULL;
    size_t best = 0;

    if (scheduler_nodes_copy(s, now, n, op, &nodes, err) < 0)
        return -1;
    for (size_t i = 0; i < n && at[0] == '\0' && op->node[0] != '\0'; i++) {
        if (strcmp(nodes[i].name, op->node) == 0 && place_judge(&nodes[i], &r) == PLACE_FITS) {
            op->placed = true;
            return 0;
        }
    }
    if (at[0] == '\0' && op->node[0] != '\0')
        return error_set(err, ERR_EXHAUSTED, "node '%s' has no room any more", op->node);
    if (place(nodes, n, &r, &best, err) < 0)
        return -1;
    op->placed = true;
    return str_copy(op->node, sizeof(op->node), nodes[best].name);
}

int scheduler_place_now(struct scheduler *s, struct operation *op, uint64_t deadline,
                        struct error *err)
{
    AUTO_FREE struct place_node *nodes = NULL;
    size_t n = 0;
    int rc;

    if (s->config->driver->nodes(s->driver, deadline, &nodes, &n, err) < 0)
        return -1;
    scheduler_lock(s);
    rc = place_locked(s, op, nodes, n, err);
    scheduler_unlock(s);
    return rc;
}
