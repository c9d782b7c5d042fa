/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_stub.h"

#ifdef COFFER_FAULT

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/strbuf.h"

#include <fcntl.h>

#define STATE_MAX MIB(64)
#define NODES_MAX 10000u

/* ---- options ---- */

static int read_node(json_t *obj, struct place_node *n, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "node");
    uint64_t vms_max = 0;

    n->schedulable = true;
    json_get_string(&r, "name", n->name, sizeof(n->name));
    json_get_u64(&r, "memory", &n->memory);
    json_get_u64(&r, "storage", &n->storage_free);
    (void)json_get_u64_opt(&r, "vms_max", &vms_max);
    n->vms_max = (uint32_t)vms_max;
    return json_reader_done(&r, err);
}

static int read_nodes(struct driver *d, json_t *list, struct error *err)
{
    json_t *item;
    size_t i;

    if (json_array_size(list) > NODES_MAX)
        return error_set(err, ERR_INVALID, "stub: too many nodes");
    d->nodes = calloc(json_array_size(list) + 1, sizeof(*d->nodes));
    if (d->nodes == NULL)
        return error_memory(err);
    json_array_foreach (list, i, item)
        if (read_node(item, &d->nodes[d->n_nodes++], err) < 0)
            return -1;
    return 0;
}

static int read_key(struct driver *d, json_t *obj, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "stub: server_key");

    json_get_string(&r, "key_id", d->server_key.key_id, sizeof(d->server_key.key_id));
    json_get_string(&r, "hash", d->server_key.hash, sizeof(d->server_key.hash));
    json_get_string(&r, "public_key", d->server_key.public_key, sizeof(d->server_key.public_key));
    return json_reader_done(&r, err);
}

static int read_state(struct driver *d, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(STATE_MAX);
    struct error missing = ERROR_INIT;

    d->clouds = json_object();
    if (d->clouds == NULL)
        return error_memory(err);
    if (d->state[0] == '\0' || (fs_read_at(AT_FDCWD, d->state, STATE_MAX, &text, &missing) < 0 &&
                                missing.code == ERR_NOT_FOUND))
        return 0;
    json_decref(TAKE_PTR(d->clouds));
    return json_parse(strbuf_text(&text), text.len, "the stub's state", &d->clouds, err);
}

static int read_options(struct driver *d, json_t *options, struct error *err)
{
    struct json_reader r = json_reader_of(options, "stub");
    json_t *nodes = json_get_array(&r, "nodes");
    json_t *key = json_get_object(&r, "server_key");

    (void)json_get_string_opt(&r, "private_key", d->private_key, sizeof(d->private_key));
    (void)json_get_string_opt(&r, "state", d->state, sizeof(d->state));
    (void)json_get_string_opt(&r, "control", d->control, sizeof(d->control));
    if (json_reader_done(&r, err) < 0 || read_nodes(d, nodes, err) < 0 || read_key(d, key, err) < 0)
        return -1;
    return read_state(d, err);
}

static void stub_close(struct driver *d)
{
    (void)pthread_mutex_destroy(&d->lock);
    json_decref(d->clouds);
    free(d->nodes);
    free(d);
}

static int stub_open(json_t *options, const struct scheduler_config *config, struct driver **ret,
                     struct error *err)
{
    struct driver *d = calloc(1, sizeof(*d));

    if (d == NULL)
        return error_memory(err);
    (void)pthread_mutex_init(&d->lock, NULL);
    d->memory = config->memory;
    d->size = config->size;
    if (read_options(d, options, err) < 0) {
        stub_close(d);
        return -1;
    }
    *ret = d;
    return 0;
}

const struct driver_ops driver_stub_ops = {
    .name = "stub",
    .names_volumes = true,
    .recipients = true,
    .open = stub_open,
    .close = stub_close,
    .server_key = stub_server_key,
    .each = stub_each,
    .find = stub_find,
    .nodes = stub_nodes,
    .volume_id = stub_volume_id,
    .create_volume = stub_create_volume,
    .attach = stub_attach,
    .start = stub_start,
    .ready = stub_ready,
    .stop = stub_stop,
    .detach = stub_detach,
    .delete_volume = stub_delete_volume,
    .add_device = stub_add_device,
    .remove_device = stub_remove_device,
};

#endif
