/* SPDX-License-Identifier: Apache-2.0 */
/* driver_local_nodes.c: what room nodes have, and what a cloud's volume is called there. */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "common/strbuf.h"

#define PREFIX_LEN (sizeof(CLOUD_VOLUME_PREFIX) - 1)
#define NODE_MS    5000u /* for one node's figures */

bool local_is_silent(struct driver *d, const struct local_node *n)
{
    bool silent;

    (void)pthread_mutex_lock(&d->lock);
    silent = n->silent;
    (void)pthread_mutex_unlock(&d->lock);
    return silent;
}

void local_set_silent(struct driver *d, struct local_node *n, bool silent)
{
    (void)pthread_mutex_lock(&d->lock);
    n->silent = silent;
    (void)pthread_mutex_unlock(&d->lock);
}

/* ---- room ---- */

static int read_figures(struct driver *d, const struct local_node *n, uint64_t deadline,
                        struct place_node *to, struct error *err)
{
    AUTO_FREE struct launch_vm *vms = NULL;
    AUTO_JSON json_t *reply = NULL;
    json_t *request = json_pack("{s:{s:s}}", "parameters", "pool", n->pool);
    size_t n_vms;

    if (local_ask(n->controller, "csi.v1.Controller/GetCapacity", request, deadline, &reply, err) <
            0 ||
        local_list_vms(n, deadline, &vms, &n_vms, err) < 0)
        return -1;
    to->storage_free = (uint64_t)json_integer_value(json_object_get(reply, "available_capacity"));
    to->vms = (uint32_t)n_vms; /* one that ended keeps its place until it is stopped */
    to->memory_used = n_vms * d->config->memory;
    to->schedulable = true;
    return 0;
}

/* Said once when it begins, and once when it is over. */
static void note_figures(struct driver *d, struct local_node *n, const struct error *why)
{
    bool were_missing, missing = why->code != ERR_OK;

    (void)pthread_mutex_lock(&d->lock);
    were_missing = n->no_figures;
    n->no_figures = missing;
    (void)pthread_mutex_unlock(&d->lock);
    if (missing && !were_missing)
        log_warn("a node doesn't tell what room it has", KV("node", n->name),
                 KV("error", why->msg));
    if (!missing && were_missing)
        log_info("a node tells what room it has again", KV("node", n->name));
}

/* Nothing is placed on a silent one, so it isn't asked. */
static void read_node(struct driver *d, struct local_node *n, uint64_t deadline,
                      struct place_node *to)
{
    struct error why = ERROR_INIT;

    (void)!str_copy(to->name, sizeof(to->name), n->name);
    to->memory = n->memory;
    to->vms_max = n->vms_max;
    if (local_is_silent(d, n))
        return;
    (void)read_figures(d, n, deadline_sooner(deadline, NODE_MS), to, &why);
    note_figures(d, n, &why);
}

int local_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
                struct error *err)
{
    AUTO_FREE struct place_node *nodes = calloc(d->n_nodes, sizeof(*nodes));

    if (nodes == NULL)
        return error_memory(err);
    for (size_t i = 0; i < d->n_nodes; i++)
        read_node(d, &d->nodes[i], deadline, &nodes[i]);
    *ret = TAKE_PTR(nodes);
    *ret_n = d->n_nodes;
    return 0;
}

/* ---- names ---- */

int local_volume_id(struct driver *d, const char *id, const char *node,
                    char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    char name[PREFIX_LEN + CLOUD_ID_LEN + 1], tag[9];
    struct volume_id volume;
    struct local_node *n;

    if (local_node_find(d, node, &n, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    memcpy(tag, n->tag, sizeof(tag));
    (void)pthread_mutex_unlock(&d->lock);
    if (tag[0] == '\0')
        return error_set(err, ERR_UNAVAILABLE, "node '%s' hasn't told of its pool yet", node);
    (void)snprintf(name, sizeof(name), CLOUD_VOLUME_PREFIX "%.32s", id);
    volume_id_from_name(n->pool, tag, name, &volume);
    volume_id_format(&volume, ret);
    return 0;
}
