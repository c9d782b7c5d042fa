/* SPDX-License-Identifier: Apache-2.0 */
/*
 * played_driver.h: a driver whose facts and failures a test writes down, and a scheduler on it. It
 * keeps the names of the calls that change something, so that a test sees what was done in what
 * order: " create attach start". One scheduler for a test program: its locks aren't made twice.
 */
#ifndef COFFER_TESTS_UNIT_SCHEDULER_PLAYED_DRIVER_H
#define COFFER_TESTS_UNIT_SCHEDULER_PLAYED_DRIVER_H

#include "tests/support/unit.h"

#include "common/deadline.h"
#include "common/strbuf.h"
#include "scheduler/scheduler.h"

#define ID     "0123456789abcdef0123456789abcdef"
#define DEVICE ID "0123456789abcdef0123456789abcdef"
#define OTHER  "fedcba9876543210fedcba9876543210"

enum played_call {
    PLAYED_EACH,
    PLAYED_FIND,
    PLAYED_NODES,
    PLAYED_SERVER_KEY,
    PLAYED_CREATE,
    PLAYED_ATTACH,
    PLAYED_START,
    PLAYED_READY,
    PLAYED_STOP,
    PLAYED_DETACH,
    PLAYED_DELETE,
    PLAYED_ADD,
    PLAYED_REMOVE,
    PLAYED_SETTLE,
    PLAYED_CALLS,
};

struct played_failure {
    enum error_code code;
    unsigned int times;
};

struct driver {
    struct cloud clouds[4]; /* id "": not there; their devices are borrowed */
    struct place_node nodes[3];
    size_t n_nodes;
    struct played_failure fail[PLAYED_CALLS];
    bool not_ready;
    uint64_t key_takes, key_left; /* ms: how long the server's key takes; what there was for it */
    char asked[128];              /* the nodes that find was told, each with a ";" */
    char calls[512];
};

static struct driver played;
static struct device played_device;

static inline int played_call(enum played_call call, struct error *err)
{
    static const char *const names[PLAYED_CALLS] = {
        "each",  "find", "nodes",  "server_key", "create", "attach", "start",
        "ready", "stop", "detach", "delete",     "add",    "remove", "settle",
    };
    struct played_failure *f = &played.fail[call];
    size_t len = strlen(played.calls);

    if (call >= PLAYED_CREATE && call != PLAYED_READY)
        (void)snprintf(played.calls + len, sizeof(played.calls) - len, " %s", names[call]);
    if (f->times == 0)
        return 0;
    f->times--;
    return error_set(err, f->code, "%s is broken", names[call]);
}

static inline struct cloud *played_cloud(const char *id)
{
    for (size_t i = 0; i < ARRAY_SIZE(played.clouds); i++) {
        if (strcmp(played.clouds[i].id, id) == 0)
            return &played.clouds[i];
    }
    return NULL;
}

/* A cloud with one device, on n1; closed. */
static inline struct cloud *played_add(const char *id)
{
    struct cloud *c = played_cloud("");

    assert_non_null(c);
    *c = (struct cloud){ .devices = &played_device, .n_devices = 1 };
    (void)snprintf(c->id, sizeof(c->id), "%s", id);
    (void)snprintf(c->volume, sizeof(c->volume), "n1/%s", id);
    (void)snprintf(c->node, sizeof(c->node), "n1");
    (void)snprintf(c->uuid, sizeof(c->uuid), "00000000-0000-4000-8000-000000000000");
    return c;
}

static inline int played_copy(const struct cloud *from, struct cloud *to)
{
    *to = *from;
    to->devices = calloc(1, sizeof(*to->devices));
    assert_non_null(to->devices);
    if (from->n_devices > 0)
        *to->devices = from->devices[0];
    return 0;
}

static inline int played_each(struct driver *d, uint64_t deadline UNUSED, cloud_cb *cb, void *ctx,
                              struct error *err)
{
    if (played_call(PLAYED_EACH, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_SIZE(d->clouds); i++) {
        if ((d->clouds[i].id[0] != '\0' || d->clouds[i].unread) && !cb(ctx, &d->clouds[i]))
            break;
    }
    return 0;
}

static inline int played_find(struct driver *d, const char *id, const char *node,
                              uint64_t deadline UNUSED, struct cloud *ret, struct error *err)
{
    const struct cloud *c = played_cloud(id);

    size_t len = strlen(d->asked);

    (void)snprintf(d->asked + len, sizeof(d->asked) - len, "%s;", node);
    if (played_call(PLAYED_FIND, err) < 0)
        return -1;
    if (c == NULL)
        return error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id);
    return c->unread ? error_set(err, ERR_DATA_LOSS, "%s", c->reason) : played_copy(c, ret);
}

static inline int played_nodes(struct driver *d, uint64_t deadline UNUSED, struct place_node **ret,
                               size_t *ret_n, struct error *err)
{
    if (played_call(PLAYED_NODES, err) < 0)
        return -1;
    *ret = calloc(d->n_nodes + 1, sizeof(**ret));
    assert_non_null(*ret);
    memcpy(*ret, d->nodes, d->n_nodes * sizeof(**ret));
    *ret_n = d->n_nodes;
    return 0;
}

static inline int played_server_key(struct driver *d, uint64_t deadline,
                                    struct cloud_server_key *ret, struct error *err)
{
    d->key_left = deadline_left(deadline);
    sleep_ms(d->key_takes);
    if (played_call(PLAYED_SERVER_KEY, err) < 0)
        return -1;
    *ret = (struct cloud_server_key){ .key_id = "k:1", .hash = "SHA-256", .public_key = "AAAA" };
    return 0;
}

static inline int played_volume_id(struct driver *d UNUSED, const char *id, const char *node,
                                   char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    int n = snprintf(ret, CLOUD_HANDLE_MAX + 1, "%.60s/%s", node, id);

    return n > 0 ? 0 : error_set(err, ERR_INTERNAL, "no name");
}

static inline int played_create(struct driver *d UNUSED, const char *id, const char *node,
                                const struct cloud_seed *seed UNUSED, uint64_t deadline UNUSED,
                                struct error *err)
{
    if (played_call(PLAYED_CREATE, err) < 0)
        return -1;
    if (played_cloud(id) == NULL) {
        struct cloud *c = played_add(id);

        (void)snprintf(c->node, sizeof(c->node), "%s", node);
        (void)snprintf(c->volume, sizeof(c->volume), "%.60s/%s", node, id);
    }
    return 0;
}

/* Does it to the cloud of that id. */
#define PLAYED_STEP(name, call, change)                                                \
    static inline int name(struct driver *d UNUSED, const struct cloud *asked,         \
                           uint64_t deadline UNUSED, struct error *err)                \
    {                                                                                  \
        struct cloud *c = played_cloud(asked->id);                                     \
        if (played_call(call, err) < 0)                                                \
            return -1;                                                                 \
        if (c == NULL)                                                                 \
            return error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", asked->id); \
        change;                                                                        \
        return 0;                                                                      \
    }
PLAYED_STEP(played_start, PLAYED_START, c->vm = VM_READY)
PLAYED_STEP(played_stop, PLAYED_STOP, c->vm = VM_NONE)
PLAYED_STEP(played_detach, PLAYED_DETACH, c->open = false)
PLAYED_STEP(played_settle, PLAYED_SETTLE, c->unsettled = false)
PLAYED_STEP(played_delete, PLAYED_DELETE, *c = (struct cloud){ .devices = NULL })

static inline int played_attach(struct driver *d UNUSED, const struct cloud *asked,
                                const struct cloud_session *s, uint64_t deadline UNUSED,
                                struct error *err)
{
    struct cloud *c = played_cloud(asked->id);

    if (played_call(PLAYED_ATTACH, err) < 0)
        return -1;
    assert_non_null(c);
    assert_true(c->open || s->session != NULL);
    c->open = c->ever_opened = true;
    return 0;
}

static inline int played_ready(struct driver *d, const struct cloud *c UNUSED,
                               uint64_t deadline UNUSED, bool *ret, struct error *err)
{
    if (played_call(PLAYED_READY, err) < 0)
        return -1;
    *ret = !d->not_ready;
    return 0;
}

static inline int played_add_device(struct driver *d UNUSED, const struct cloud *c UNUSED,
                                    const struct device *add UNUSED,
                                    const struct cloud_session *s UNUSED, uint64_t deadline UNUSED,
                                    struct error *err)
{
    return played_call(PLAYED_ADD, err);
}

static inline int played_remove_device(struct driver *d UNUSED, const struct cloud *c UNUSED,
                                       const char *fingerprint UNUSED,
                                       const struct cloud_session *s UNUSED,
                                       const struct cloud_new_key *key UNUSED,
                                       uint64_t deadline UNUSED, struct error *err)
{
    return played_call(PLAYED_REMOVE, err);
}

static inline int played_open(json_t *options UNUSED, const struct scheduler_config *config UNUSED,
                              struct driver **ret, struct error *err UNUSED)
{
    *ret = &played;
    return 0;
}

static struct driver_ops played_ops = {
    .name = "played",
    .names_volumes = true,
    .recipients = true,
    .open = played_open,
    .server_key = played_server_key,
    .each = played_each,
    .find = played_find,
    .nodes = played_nodes,
    .volume_id = played_volume_id,
    .create_volume = played_create,
    .attach = played_attach,
    .start = played_start,
    .ready = played_ready,
    .stop = played_stop,
    .detach = played_detach,
    .delete_volume = played_delete,
    .add_device = played_add_device,
    .remove_device = played_remove_device,
    .settle = played_settle,
};

static struct scheduler_config played_config = { .driver = &played_ops,
                                                 .url = "https://clouds.example/c/",
                                                 .size = 10,
                                                 .memory = 100,
                                                 .ready_seconds = 1,
                                                 .stop_seconds = 0 };
static struct scheduler played_scheduler;

static inline void played_node(const char *name, uint64_t memory, uint64_t storage)
{
    struct place_node *n = &played.nodes[played.n_nodes++];

    *n = (struct place_node){ .schedulable = true, .memory = memory, .storage_free = storage };
    (void)snprintf(n->name, sizeof(n->name), "%s", name);
}

/* Nothing there but two nodes and the device; the scheduler has seen nothing yet. For cmocka's
 * setup. */
static inline int played_begin(void **state UNUSED)
{
    struct scheduler *s = &played_scheduler;

    played = (struct driver){ .n_nodes = 0 };
    played_node("n1", 1000, 100);
    played_node("n2", 1000, 100);
    played_device = (struct device){
        .name = DEVICE, .algorithm = "RSA-OAEP-256", .wrapped = "d3JhcHBlZA==", .label = "phone"
    };
    memset(played_device.fingerprint, 'f', DEVICE_NAME_LEN);
    played_ops.names_volumes = true;
    if (s->config == NULL)
        assert_works(scheduler_init(s, &played_config, &err));
    s->round_at = s->server_key_at = 0;
    s->round_error[0] = s->server_key_error[0] = '\0';
    s->stopping = false;
    return 0;
}

static inline bool played_forget(void *ctx, struct entry *e)
{
    if (e->op != NULL)
        played_scheduler.n_operations--;
    operation_free(e->op);
    cloud_table_remove(ctx, e);
    return true;
}

/* For cmocka's teardown: of a program without a worker. */
static inline int played_end(void **state UNUSED)
{
    struct scheduler *s = &played_scheduler;

    cloud_table_each(s->table, played_forget, s->table);
    s->queue = NULL;
    free(s->nodes);
    s->nodes = NULL;
    s->n_nodes = 0;
    unread_list_clear(&s->unread);
    return 0;
}

static inline struct entry *played_entry(const char *id)
{
    return cloud_table_by_id(played_scheduler.table, id);
}

#define PLAYED_TEST(f) cmocka_unit_test_setup_teardown(f, played_begin, played_end)

#endif
