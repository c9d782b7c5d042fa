/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/strbuf.h"
#include "csi/client.h"
#include "scheduler/server_key.h"

#define NODES_MAX   10000u
#define SOCKET_NAME 38u /* "/<id>.sock" */

/* ---- options ---- */

/* As RFC 1123 has them, lower case. */
static bool node_name_valid(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-");

    return len > 0 && len <= NODE_NAME_MAX && name[len] == '\0' && name[0] != '-' &&
           name[0] != '.' && name[len - 1] != '-' && name[len - 1] != '.';
}

/* "unix:///path", "unix:/path" or a path, as everywhere (csi/endpoint.h). */
static bool endpoint_valid(const char *text)
{
    if (strncmp(text, "unix:", 5) == 0)
        text += strncmp(text, "unix://", 7) == 0 ? 7 : 5;
    return text[0] == '/' && strlen(text) <= UNIX_PATH_MAX_LEN;
}

static void check_node(struct json_reader *r, const struct local_node *n, uint64_t vms_max)
{
    if (!endpoint_valid(n->controller))
        json_problem(r, "field 'controller' must be the endpoint of a unix socket");
    if (!endpoint_valid(n->node))
        json_problem(r, "field 'node' must be the endpoint of a unix socket");
    if (n->launch[0] != '/')
        json_problem(r, "field 'launch' must be an absolute path");
    if (!pool_name_valid(n->pool))
        json_problem(r, "field 'pool' is no pool's name");
    if (!kms_name_valid(n->kms))
        json_problem(r, "field 'kms' is no key service's name");
    if (n->memory == 0)
        json_problem(r, "field 'memory' must not be 0");
    if (vms_max > UINT32_MAX)
        json_problem(r, "field 'vms_max' is too large");
}

static int read_node(const char *name, json_t *obj, struct local_node *ret, struct error *err)
{
    char what[NODE_NAME_MAX + 16];
    struct local_node n = { .memory = 0 };
    struct json_reader r;
    uint64_t vms_max = 0;

    if (!node_name_valid(name) || str_copy(n.name, sizeof(n.name), name) < 0)
        return error_set(err, ERR_INVALID,
                         "local: '%.64s' is no node's name: 1 to %d of a-z, 0-9, '-' and '.'", name,
                         NODE_NAME_MAX);
    (void)snprintf(what, sizeof(what), "local: node %s", name);
    if (!json_is_object(obj))
        return error_set(err, ERR_INVALID, "%s must be an object", what);
    r = json_reader_of(obj, what);
    json_get_string(&r, "controller", n.controller, sizeof(n.controller));
    json_get_string(&r, "node", n.node, sizeof(n.node));
    json_get_string(&r, "launch", n.launch, sizeof(n.launch));
    json_get_string(&r, "pool", n.pool, sizeof(n.pool));
    json_get_string(&r, "kms", n.kms, sizeof(n.kms));
    json_get_u64(&r, "memory", &n.memory);
    (void)json_get_u64_opt(&r, "vms_max", &vms_max);
    check_node(&r, &n, vms_max);
    if (json_reader_done(&r, err) < 0)
        return -1;
    n.vms_max = (uint32_t)vms_max;
    *ret = n;
    return 0;
}

static int compare_nodes(const void *a, const void *b)
{
    return strcmp(((const struct local_node *)a)->name, ((const struct local_node *)b)->name);
}

static int read_nodes(struct driver *d, json_t *nodes, struct error *err)
{
    const char *name;
    json_t *item;

    if (json_object_size(nodes) == 0 || json_object_size(nodes) > NODES_MAX)
        return error_set(err, ERR_INVALID, "local: field 'nodes' must have 1 to %u nodes",
                         NODES_MAX);
    d->nodes = calloc(json_object_size(nodes), sizeof(*d->nodes));
    if (d->nodes == NULL)
        return error_memory(err);
    json_object_foreach (nodes, name, item) {
        if (read_node(name, item, &d->nodes[d->n_nodes], err) < 0)
            return -1;
        d->n_nodes++;
    }
    qsort(d->nodes, d->n_nodes, sizeof(*d->nodes), compare_nodes);
    return 0;
}

static void check_directory(struct json_reader *r, const char *field, const char *path, size_t max)
{
    size_t len = strlen(path);

    if (path[0] != '/' || len > max || (len > 1 && path[len - 1] == '/'))
        json_problem(r, "field '%s' must be an absolute path of at most %zu bytes", field, max);
}

static int read_options(struct driver *d, json_t *options, struct error *err)
{
    struct json_reader r = json_reader_of(options, "local");
    json_t *nodes = json_get_object(&r, "nodes");

    (void)!str_copy(d->volumes, sizeof(d->volumes), "/run/coffer/clouds");
    (void)!str_copy(d->sockets, sizeof(d->sockets), "/run/coffer/vms");
    (void)json_get_string_opt(&r, "volumes", d->volumes, sizeof(d->volumes));
    (void)json_get_string_opt(&r, "sockets", d->sockets, sizeof(d->sockets));
    check_directory(&r, "volumes", d->volumes, sizeof(d->volumes) - 1);
    check_directory(&r, "sockets", d->sockets, UNIX_PATH_MAX_LEN - SOCKET_NAME);
    return json_reader_done(&r, err) < 0 ? -1 : read_nodes(d, nodes, err);
}

/* ---- a driver's life ---- */

static void local_close(struct driver *d)
{
    if (d == NULL)
        return;
    (void)pthread_mutex_destroy(&d->lock);
    json_decref(d->ready);
    free(d->nodes);
    free(d);
}

static int local_open(json_t *options, const struct scheduler_config *config, struct driver **ret,
                      struct error *err)
{
    struct driver *d = calloc(1, sizeof(*d));

    if (d == NULL)
        return error_memory(err);
    csi_client_init();
    (void)pthread_mutex_init(&d->lock, NULL);
    d->config = config;
    d->ready = json_object();
    if (d->ready == NULL || read_options(d, options, err) < 0) {
        int r = d->ready == NULL ? error_memory(err) : -1;
        local_close(d);
        return r;
    }
    *ret = d;
    return 0;
}

static int local_server_key(struct driver *d, uint64_t deadline, struct cloud_server_key *ret,
                            struct error *err)
{
    return server_key_ask(d->config, deadline, ret, err);
}

const struct driver_ops driver_local_ops = {
    .name = "local",
    .names_volumes = true,
    .recipients = true,
    .open = local_open,
    .close = local_close,
    .server_key = local_server_key,
    .each = local_each,
    .find = local_find,
    .nodes = local_nodes,
    .volume_id = local_volume_id,
    .create_volume = local_create_volume,
    .attach = local_attach,
    .start = local_start,
    .ready = local_ready,
    .stop = local_stop,
    .detach = local_detach,
    .delete_volume = local_delete_volume,
    .add_device = local_add_device,
    .remove_device = local_remove_device,
};
