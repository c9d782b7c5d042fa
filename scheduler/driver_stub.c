/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_stub.h"

#ifdef COFFER_FAULT

#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/fs.h"
#include "common/strbuf.h"
#include "scheduler/driver_stub_session.h"

#include <fcntl.h>
#include <pthread.h>

#define CONTROL_MAX KIB(64)
#define STATE_MAX   MIB(64)
#define NODES_MAX   10000u

struct driver {
    pthread_mutex_t lock;
    struct place_node *nodes;
    size_t n_nodes;
    struct cloud_server_key server_key;
    char private_key[256], state[256], control[256];
    uint64_t memory, size;
    json_t *clouds; /* id -> facts */
};

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

static int play(struct driver *d, const char *call, uint64_t deadline, struct error *err)
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

static int keep(struct driver *d, struct error *err)
{
    AUTO_FREE char *text = NULL;

    if (d->state[0] == '\0')
        return 0;
    text = json_dumps(d->clouds, JSON_SORT_KEYS);
    if (text == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    return write_state(d->state, text, err);
}

static void copy_text(char *dst, size_t size, const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    if (text != NULL && str_copy(dst, size, text) < 0)
        dst[0] = '\0';
}

static void read_device(struct device *to, const json_t *from)
{
    copy_text(to->name, sizeof(to->name), from, "name");
    copy_text(to->fingerprint, sizeof(to->fingerprint), from, "fingerprint");
    copy_text(to->algorithm, sizeof(to->algorithm), from, "algorithm");
    copy_text(to->label, sizeof(to->label), from, "label");
    copy_text(to->public_key, sizeof(to->public_key), from, "public_key");
    copy_text(to->wrapped, sizeof(to->wrapped), from, "wrapped");
}

static json_t *write_device(const struct device *from)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", from->name, "fingerprint",
                     from->fingerprint, "algorithm", from->algorithm, "label", from->label,
                     "public_key", from->public_key, "wrapped", from->wrapped);
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
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    if (str_copy(c.id, sizeof(c.id), id) < 0)
        c.id[0] = '\0';
    copy_text(c.volume, sizeof(c.volume), facts, "volume");
    copy_text(c.uuid, sizeof(c.uuid), facts, "uuid");
    copy_text(c.commitment, sizeof(c.commitment), facts, "commitment");
    copy_text(c.node, sizeof(c.node), facts, "node");
    json_array_foreach (devices, i, item)
        read_device(&c.devices[c.n_devices++], item);
    c.vm = played_vm(d, id, json_is_true(json_object_get(facts, "vm")) ? VM_READY : VM_NONE);
    if (c.vm == VM_FAILED)
        memcpy(c.reason, "signal 9", sizeof("signal 9"));
    *ret = c;
    return 0;
}

static int stub_find(struct driver *d, const char *id, uint64_t deadline, struct cloud *ret,
                     struct error *err)
{
    const json_t *facts;
    int rc;

    if (play(d, "find", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    facts = json_object_get(d->clouds, id);
    rc = facts != NULL ? read_cloud(d, id, facts, ret, err)
                       : error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

static int each_locked(struct driver *d, cloud_cb *cb, void *ctx, struct error *err)
{
    const char *id;
    json_t *facts;

    json_object_foreach (d->clouds, id, facts) {
        AUTO_CLOUD struct cloud c = { .devices = NULL };

        if (read_cloud(d, id, facts, &c, err) < 0)
            return -1;
        if (!cb(ctx, &c))
            break;
    }
    return 0;
}

static int stub_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx,
                     struct error *err)
{
    int rc;

    if (play(d, "each", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    rc = each_locked(d, cb, ctx, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

static int stub_server_key(struct driver *d, uint64_t deadline, struct cloud_server_key *ret,
                           struct error *err)
{
    if (play(d, "server_key", deadline, err) < 0)
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

static int stub_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
                      struct error *err)
{
    struct place_node *nodes = calloc(d->n_nodes + 1, sizeof(*nodes));
    const char *id;
    json_t *facts;

    if (nodes == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    if (play(d, "nodes", deadline, err) < 0) {
        free(nodes);
        return -1;
    }
    memcpy(nodes, d->nodes, d->n_nodes * sizeof(*nodes));
    (void)pthread_mutex_lock(&d->lock);
    json_object_foreach (d->clouds, id, facts)
        use_node(d, nodes, facts);
    (void)pthread_mutex_unlock(&d->lock);
    *ret = nodes;
    *ret_n = d->n_nodes;
    return 0;
}

static int stub_volume_id(struct driver *d UNUSED, const char *id, const char *node,
                          char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    int n = snprintf(ret, CLOUD_HANDLE_MAX + 1, "%.40s.%s", node, id);

    return n > 0 && n <= CLOUD_HANDLE_MAX ? 0 : error_set(err, ERR_INTERNAL, "too long a name");
}

/* ---- steps ---- */

static bool same_volume(const json_t *facts, const struct cloud_seed *seed)
{
    const json_t *first = json_array_get(json_object_get(facts, "devices"), 0);
    const char *uuid = json_string_value(json_object_get(facts, "uuid"));
    const char *commitment = json_string_value(json_object_get(facts, "commitment"));
    const char *wrapped = json_string_value(json_object_get(first, "wrapped"));

    return uuid != NULL && strcmp(uuid, seed->uuid) == 0 && commitment != NULL &&
           strcmp(commitment, seed->commitment) == 0 && wrapped != NULL &&
           strcmp(wrapped, seed->wrapped) == 0;
}

static json_t *new_volume(const char *id, const char *node, const struct cloud_seed *seed)
{
    char volume[CLOUD_HANDLE_MAX + 1];

    if (stub_volume_id(NULL, id, node, volume, NULL) < 0)
        return NULL;
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:[{s:s, s:s, s:s, s:s, s:s, s:s}]}",
                     "volume", volume, "uuid", seed->uuid, "commitment", seed->commitment, "node",
                     node, "open", 0, "ever_opened", 0, "vm", 0, "devices", "name", seed->name,
                     "fingerprint", seed->fingerprint, "algorithm", seed->algorithm, "label",
                     seed->label, "public_key", seed->public_key, "wrapped", seed->wrapped);
}

static int create_locked(struct driver *d, const char *id, const char *node,
                         const struct cloud_seed *seed, struct error *err)
{
    const json_t *facts = json_object_get(d->clouds, id);

    if (facts != NULL)
        return same_volume(facts, seed)
                   ? 0
                   : error_set(err, ERR_EXISTS, "there is a volume of another device or key");
    if (json_object_set_new(d->clouds, id, new_volume(id, node, seed)) < 0)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    return keep(d, err);
}

static int stub_create_volume(struct driver *d, const char *id, const char *node,
                              const struct cloud_seed *seed, uint64_t deadline, struct error *err)
{
    int rc;

    if (play(d, "create_volume", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    rc = create_locked(d, id, node, seed, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

static int set_flags(struct driver *d, const char *id, const char *const keys[2], bool value,
                     struct error *err)
{
    json_t *facts;
    int rc;

    (void)pthread_mutex_lock(&d->lock);
    facts = json_object_get(d->clouds, id);
    for (size_t i = 0; i < 2 && keys[i] != NULL; i++)
        (void)json_object_set_new(facts, keys[i], json_boolean(value));
    rc = facts == NULL ? error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id) : keep(d, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

static int check_session(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                         struct error *err)
{
    char commitment[65] = "";

    if (strcmp(s->server_key, d->server_key.key_id) != 0)
        return error_set(err, ERR_INVALID, "there is no server key '%s'", s->server_key);
    (void)pthread_mutex_lock(&d->lock);
    copy_text(commitment, sizeof(commitment), json_object_get(d->clouds, c->id), "commitment");
    (void)pthread_mutex_unlock(&d->lock);
    if (d->private_key[0] == '\0')
        return 0;
    return stub_session_check(d->private_key, c, s, commitment, err);
}

static int stub_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                       uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "open", "ever_opened" };

    if (play(d, "attach", deadline, err) < 0 || (!c->open && check_session(d, c, s, err) < 0))
        return -1;
    return set_flags(d, c->id, keys, true, err);
}

static int stub_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "vm", NULL };

    return play(d, "start", deadline, err) < 0 ? -1 : set_flags(d, c->id, keys, true, err);
}

static int stub_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
                      struct error *err)
{
    AUTO_CLOUD struct cloud now = { .devices = NULL };

    if (play(d, "ready", deadline, err) < 0 || stub_find(d, c->id, deadline, &now, err) < 0)
        return -1;
    if (now.vm == VM_FAILED || now.vm == VM_NONE)
        return error_set(err, ERR_PRECONDITION, "the VM ended: %s", now.reason);
    *ret = now.vm == VM_READY;
    return 0;
}

static int stub_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "vm", NULL };

    return play(d, "stop", deadline, err) < 0 ? -1 : set_flags(d, c->id, keys, false, err);
}

static int stub_detach(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err)
{
    static const char *const keys[2] = { "open", NULL };

    return play(d, "detach", deadline, err) < 0 ? -1 : set_flags(d, c->id, keys, false, err);
}

static int stub_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                              struct error *err)
{
    int rc;

    if (play(d, "delete_volume", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    (void)json_object_del(d->clouds, c->id);
    rc = keep(d, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

/* ---- devices ---- */

static int stub_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                           const struct cloud_session *s, uint64_t deadline, struct error *err)
{
    json_t *devices;
    int rc;

    if (play(d, "add_device", deadline, err) < 0 || check_session(d, c, s, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    devices = json_object_get(json_object_get(d->clouds, c->id), "devices");
    rc = json_array_append_new(devices, write_device(add)) < 0
             ? error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", c->id)
             : keep(d, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

/* Takes the device away and gives those who stay their new forms. */
static int rekey(json_t *facts, const char *fingerprint, const struct cloud_new_key *key,
                 struct error *err)
{
    json_t *devices = json_object_get(facts, "devices"), *item, *forms = NULL, *form;
    size_t i, j;

    if (json_array_size(devices) < 2)
        return error_set(err, ERR_PRECONDITION, "the last device can't be removed");
    if (json_parse(key->recipients, strlen(key->recipients), "newRecipients", &forms, err) < 0)
        return -1;
    for (i = json_array_size(devices); i-- > 0;) {
        item = json_array_get(devices, i);
        if (strcmp(json_string_value(json_object_get(item, "fingerprint")), fingerprint) == 0)
            (void)json_array_remove(devices, i);
    }
    json_array_foreach (devices, i, item)
        json_array_foreach (forms, j, form)
            if (json_equal(json_object_get(item, "fingerprint"),
                           json_object_get(form, "fingerprint")))
                (void)json_object_set(item, "wrapped", json_object_get(form, "wrapped"));
    (void)json_object_set_new(facts, "commitment", json_string(key->commitment));
    json_decref(forms);
    return 0;
}

static int stub_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                              const struct cloud_session *s, const struct cloud_new_key *key,
                              uint64_t deadline, struct error *err)
{
    int rc;

    if (play(d, "remove_device", deadline, err) < 0 || check_session(d, c, s, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    rc = rekey(json_object_get(d->clouds, c->id), fingerprint, key, err);
    if (rc == 0)
        rc = keep(d, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

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
        return error_set(err, ERR_EXHAUSTED, "out of memory");
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
        return error_set(err, ERR_EXHAUSTED, "out of memory");
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
        return error_set(err, ERR_EXHAUSTED, "out of memory");
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
