/* SPDX-License-Identifier: Apache-2.0 */
/* driver_stub_facts.c: what there is, and what a test's control file says of it. */
#include "common/base.h"
#include "scheduler/driver_stub.h"

#ifdef COFFER_FAULT

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"
#include "common/strbuf.h"

#include <fcntl.h>

#define CONTROL_MAX KIB(64)

/* ---- what a test asks for ---- */

static json_t *read_control(struct driver *d)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(CONTROL_MAX);
    json_t *control = NULL;

    if (d->control[0] == '\0' || fs_read_at(AT_FDCWD, d->control, CONTROL_MAX, &text, NULL) < 0 ||
        json_parse(strbuf_text(&text), text.len, "the stub's control", &control, NULL) < 0)
        return NULL;
    return control;
}

int stub_play(struct driver *d, const char *call, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *control = read_control(d);
    json_t *fail = json_object_get(json_object_get(control, "fail"), call);
    uint64_t delay =
        (uint64_t)json_integer_value(json_object_get(json_object_get(control, "delay"), call));

    if (delay > deadline_left(deadline)) {
        sleep_ms(deadline_left(deadline));
        return error_set(err, ERR_DEADLINE, "the stub's %s is slow", call);
    }
    if (delay > 0)
        sleep_ms(delay);
    if (fail == NULL)
        return 0;
    return error_set(err, error_code_from_name(json_string_value(json_object_get(fail, "code"))),
                     "%s", json_string_value(json_object_get(fail, "message")));
}

static enum vm_state played_vm(struct driver *d, const char *id, enum vm_state real)
{
    AUTO_JSON json_t *control = read_control(d);
    json_t *vms = json_object_get(control, "vm");
    const char *state = json_string_value(json_object_get(vms, id));

    if (state == NULL)
        state = json_string_value(json_object_get(vms, "*"));
    if (state == NULL || real == VM_NONE)
        return real;
    return strcmp(state, "failed") == 0 ? VM_FAILED : VM_STARTING;
}

/* ---- facts ---- */

static int write_state(const char *path, const char *text, struct error *err)
{
    char tmp[sizeof(((struct driver *)NULL)->state) + 4];
    AUTO_CLOSE int fd = -1;

    (void)snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, errno, "open '%s'", tmp);
    if (fs_write_all(fd, text, strlen(text), tmp, err) < 0)
        return -1;
    return rename(tmp, path) == 0 ? 0 : error_errno(err, errno, "rename '%s'", tmp);
}

int stub_keep(struct driver *d, struct error *err)
{
    AUTO_FREE char *text = NULL;

    if (d->state[0] == '\0')
        return 0;
    text = json_text(d->clouds, JSON_SORT_KEYS);
    if (text == NULL)
        return error_memory(err);
    return write_state(d->state, text, err);
}

void stub_copy_text(char *dst, size_t size, const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    if (text != NULL && str_copy(dst, size, text) < 0)
        dst[0] = '\0';
}

static void read_device(struct device *to, const json_t *from)
{
    stub_copy_text(to->name, sizeof(to->name), from, "name");
    stub_copy_text(to->fingerprint, sizeof(to->fingerprint), from, "fingerprint");
    stub_copy_text(to->algorithm, sizeof(to->algorithm), from, "algorithm");
    stub_copy_text(to->label, sizeof(to->label), from, "label");
    stub_copy_text(to->public_key, sizeof(to->public_key), from, "public_key");
    stub_copy_text(to->wrapped, sizeof(to->wrapped), from, "wrapped");
}

static int read_cloud(struct driver *d, const char *id, const json_t *facts, struct cloud *ret,
                      struct error *err)
{
    const json_t *devices = json_object_get(facts, "devices"), *item;
    struct cloud c = { .open = json_is_true(json_object_get(facts, "open")),
                       .ever_opened = json_is_true(json_object_get(facts, "ever_opened")) };
    size_t i;

    c.devices = calloc(json_array_size(devices) + 1, sizeof(*c.devices));
    if (c.devices == NULL)
        return error_memory(err);
    if (str_copy(c.id, sizeof(c.id), id) < 0)
        c.id[0] = '\0';
    stub_copy_text(c.volume, sizeof(c.volume), facts, "volume");
    stub_copy_text(c.uuid, sizeof(c.uuid), facts, "uuid");
    stub_copy_text(c.commitment, sizeof(c.commitment), facts, "commitment");
    stub_copy_text(c.node, sizeof(c.node), facts, "node");
    json_array_foreach (devices, i, item)
        read_device(&c.devices[c.n_devices++], item);
    c.vm = played_vm(d, id, json_is_true(json_object_get(facts, "vm")) ? VM_READY : VM_NONE);
    if (c.vm == VM_FAILED)
        memcpy(c.reason, "signal 9", sizeof("signal 9"));
    *ret = c;
    return 0;
}

static const char *text_of(const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text != NULL ? text : "";
}

/* Whether the node doesn't answer, or, for "", any of them; or that volume's record isn't read. */
static int check_played(const json_t *control, const char *id, const char *node, struct error *err)
{
    const json_t *silent = json_object_get(control, "silent");
    const char *why = text_of(json_object_get(control, "unreadable"), id);

    if (why[0] != '\0')
        return error_set(err, ERR_DATA_LOSS, "the record of cloud '%s' can't be read", id);
    if (node[0] == '\0' ? json_object_size(silent) > 0 : json_object_get(silent, node) != NULL)
        return error_set(err, ERR_UNAVAILABLE, "node '%s' doesn't answer", node);
    return 0;
}

static int find_locked(struct driver *d, const char *id, const char *node, struct cloud *ret,
                       struct error *err)
{
    AUTO_JSON json_t *control = read_control(d);
    const json_t *facts = json_object_get(d->clouds, id);

    if (check_played(control, id, facts != NULL ? text_of(facts, "node") : node, err) < 0)
        return -1;
    return facts != NULL ? read_cloud(d, id, facts, ret, err)
                         : error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id);
}

int stub_find(struct driver *d, const char *id, const char *node, uint64_t deadline,
              struct cloud *ret, struct error *err)
{
    int rc;

    if (stub_play(d, "find", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    rc = find_locked(d, id, node, ret, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

/* As the driver local tells of them: a record that isn't read has no cloud's id. */
static bool tell_unread(const char *volume, const char *node, const char *why, cloud_cb *cb,
                        void *ctx)
{
    struct cloud c = { .unread = true };

    (void)!str_copy(c.volume, sizeof(c.volume), volume);
    (void)!str_copy(c.node, sizeof(c.node), node);
    (void)!str_copy(c.reason, sizeof(c.reason), why);
    return cb(ctx, &c);
}

static int each_locked(struct driver *d, const json_t *control, cloud_cb *cb, void *ctx,
                       struct error *err)
{
    const json_t *unreadable = json_object_get(control, "unreadable");
    const json_t *silent = json_object_get(control, "silent");
    const char *id;
    json_t *facts;

    json_object_foreach (d->clouds, id, facts) {
        AUTO_CLOUD struct cloud c = { .devices = NULL };
        const char *why = text_of(unreadable, id);

        if (json_object_get(silent, text_of(facts, "node")) != NULL)
            continue;
        if (why[0] == '\0' && read_cloud(d, id, facts, &c, err) < 0)
            return -1;
        if (why[0] != '\0'
                ? !tell_unread(text_of(facts, "volume"), text_of(facts, "node"), why, cb, ctx)
                : !cb(ctx, &c))
            break;
    }
    return 0;
}

static void tell_silent(json_t *silent, cloud_cb *cb, void *ctx)
{
    const char *node;
    json_t *why;

    json_object_foreach (silent, node, why)
        (void)tell_unread("", node, json_string_value(why), cb, ctx);
}

int stub_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err)
{
    AUTO_JSON json_t *control = read_control(d);
    int rc;

    if (stub_play(d, "each", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    rc = each_locked(d, control, cb, ctx, err);
    (void)pthread_mutex_unlock(&d->lock);
    if (rc == 0)
        tell_silent(json_object_get(control, "silent"), cb, ctx);
    return rc;
}

int stub_server_key(struct driver *d, uint64_t deadline, struct cloud_server_key *ret,
                    struct error *err)
{
    if (stub_play(d, "server_key", deadline, err) < 0)
        return -1;
    *ret = d->server_key;
    return 0;
}

static void use_node(struct driver *d, struct place_node *nodes, const json_t *facts)
{
    const char *name = json_string_value(json_object_get(facts, "node"));

    for (size_t i = 0; name != NULL && i < d->n_nodes; i++) {
        struct place_node *n = &nodes[i];

        if (strcmp(n->name, name) != 0)
            continue;
        n->storage_free -= d->size < n->storage_free ? d->size : n->storage_free;
        if (json_is_true(json_object_get(facts, "vm"))) {
            n->memory_used += d->memory;
            n->vms++;
        }
    }
}

int stub_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
               struct error *err)
{
    struct place_node *nodes = calloc(d->n_nodes + 1, sizeof(*nodes));
    AUTO_JSON json_t *control = read_control(d);
    const json_t *silent = json_object_get(control, "silent");
    const char *id;
    json_t *facts;

    if (nodes == NULL)
        return error_memory(err);
    if (stub_play(d, "nodes", deadline, err) < 0) {
        free(nodes);
        return -1;
    }
    memcpy(nodes, d->nodes, d->n_nodes * sizeof(*nodes));
    for (size_t i = 0; i < d->n_nodes; i++)
        nodes[i].schedulable = json_object_get(silent, nodes[i].name) == NULL;
    (void)pthread_mutex_lock(&d->lock);
    json_object_foreach (d->clouds, id, facts)
        use_node(d, nodes, facts);
    (void)pthread_mutex_unlock(&d->lock);
    *ret = nodes;
    *ret_n = d->n_nodes;
    return 0;
}

int stub_volume_id(struct driver *d UNUSED, const char *id, const char *node,
                   char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    int n = snprintf(ret, CLOUD_HANDLE_MAX + 1, "%.40s.%s", node, id);

    return n > 0 && n <= CLOUD_HANDLE_MAX ? 0 : error_set(err, ERR_INTERNAL, "too long a name");
}

#endif
