/* SPDX-License-Identifier: Apache-2.0 */
/* driver_local_facts.c: what there is: of each node, the volumes that its records tell of and the
 * VMs that coffer-launch lists, by the cloud's id put together. */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/deadline.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "recipient/publickey.h"
#include "scheduler/launch_client.h"
#include "scheduler/vm_probe.h"

#define PREFIX_LEN (sizeof(CLOUD_VOLUME_PREFIX) - 1)
#define PAGES_MAX  100000u /* of 256 volumes at most */
#define PROBE_MS   1000u   /* for one VM to answer, where nobody waits for it */
#define PROBES_MS  3000u   /* for all VMs of a round */
#define NODE_MS    5000u   /* for one node's figures */

static uint64_t sooner(uint64_t deadline, uint64_t ms)
{
    uint64_t soon = deadline_in(ms);

    return soon < deadline ? soon : deadline;
}

/* A text of a reply; "" when it isn't there, as proto3 leaves it out. */
static const char *text_of(const json_t *obj, const char *key)
{
    const char *text = json_string_value(json_object_get(obj, key));

    return text != NULL ? text : "";
}

/* ---- which VMs have answered ---- */

static bool has_answered(struct driver *d, const char *id, uint64_t pid)
{
    bool known;

    (void)pthread_mutex_lock(&d->lock);
    known = (uint64_t)json_integer_value(json_object_get(d->ready, id)) == pid;
    (void)pthread_mutex_unlock(&d->lock);
    return known;
}

static void remember_answer(struct driver *d, const char *id, uint64_t pid)
{
    (void)pthread_mutex_lock(&d->lock);
    (void)json_object_set_new(d->ready, id, json_integer((json_int_t)pid));
    (void)pthread_mutex_unlock(&d->lock);
}

void local_vm_forget(struct driver *d, const char *id)
{
    (void)pthread_mutex_lock(&d->lock);
    (void)json_object_del(d->ready, id);
    (void)pthread_mutex_unlock(&d->lock);
}

bool local_vm_answers(struct driver *d, const char *id, uint64_t pid, uint64_t deadline)
{
    char path[sizeof(d->sockets) + CLOUD_ID_LEN + 8];

    if (pid != 0 && has_answered(d, id, pid))
        return true;
    (void)snprintf(path, sizeof(path), "%s/%s.sock", d->sockets, id);
    if (!vm_probe(path, d->config->ready_path, deadline))
        return false;
    remember_answer(d, id, pid);
    return true;
}

static void read_vm(struct driver *d, const struct launch_vm *vm, uint64_t deadline,
                    struct cloud *to)
{
    if (vm == NULL)
        return;
    if (!vm->running) {
        local_vm_forget(d, vm->id);
        to->vm = VM_FAILED;
        (void)snprintf(to->reason, sizeof(to->reason), "%s", vm->status);
        return;
    }
    to->vm =
        local_vm_answers(d, vm->id, vm->pid, sooner(deadline, PROBE_MS)) ? VM_READY : VM_STARTING;
}

/* ---- volumes ---- */

static int copy(char *to, size_t size, const json_t *obj, const char *key, struct error *err)
{
    return str_copy(to, size, text_of(obj, key)) == 0
               ? 0
               : error_set(err, ERR_INTERNAL, "a node's answer has a %s that is too long", key);
}

static int arcs_name(const char *public_key, char ret[DEVICE_NAME_LEN + 1], struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *key = NULL;
    unsigned char der[PUBLIC_KEY_DER_MAX];
    size_t len;

    if (b64_decode(der, sizeof(der), public_key, strlen(public_key), &len) < 0)
        return error_set(err, ERR_INTERNAL, "a recipient's public key isn't base64");
    return public_key_parse(der, len, &key, err) < 0 ||
                   public_key_arcs_fingerprint(key, ret, err) < 0
               ? -1
               : 0;
}

static int read_device(const json_t *from, struct device *to, struct error *err)
{
    return copy(to->fingerprint, sizeof(to->fingerprint), from, "fingerprint", err) < 0 ||
                   copy(to->algorithm, sizeof(to->algorithm), from, "algorithm", err) < 0 ||
                   copy(to->label, sizeof(to->label), from, "label", err) < 0 ||
                   copy(to->public_key, sizeof(to->public_key), from, "public_key", err) < 0 ||
                   copy(to->wrapped, sizeof(to->wrapped), from, "wrapped", err) < 0
               ? -1
               : arcs_name(to->public_key, to->name, err);
}

/* A recipient that is no RSA key (a pool's escrow key may be) is no device of the user's. */
static int read_devices(const json_t *list, struct cloud *to, struct error *err)
{
    const json_t *item;
    size_t i;

    to->devices = calloc(json_array_size(list) + 1, sizeof(*to->devices));
    if (to->devices == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    json_array_foreach (list, i, item) {
        struct error why = ERROR_INIT;

        if (read_device(item, &to->devices[to->n_devices], &why) == 0)
            to->n_devices++;
        else if (why.code == ERR_EXHAUSTED)
            return error_pass(err, &why);
    }
    return 0;
}

/* Nothing was ever written by a user before `ready`. */
static bool may_have_data(const char *state)
{
    return strcmp(state, "minting") != 0 && strcmp(state, "new") != 0 &&
           strcmp(state, "formatting") != 0;
}

static int read_volume(const struct local_node *n, const char *id, const json_t *v,
                       struct cloud *to, struct error *err)
{
    to->ever_opened = may_have_data(text_of(v, "state"));
    to->open = json_is_true(json_object_get(v, "open"));
    return str_copy(to->id, sizeof(to->id), id) < 0 ||
                   str_copy(to->node, sizeof(to->node), n->name) < 0 ||
                   copy(to->volume, sizeof(to->volume), v, "volume_id", err) < 0 ||
                   copy(to->uuid, sizeof(to->uuid), v, "uuid", err) < 0 ||
                   copy(to->commitment, sizeof(to->commitment), v, "commitment", err) < 0 ||
                   read_devices(json_object_get(v, "recipients"), to, err) < 0
               ? -1
               : 0;
}

/* The cloud's id in the volume's name; NULL: it is no cloud's. */
static const char *id_of(const json_t *volume)
{
    const char *name = text_of(volume, "name");

    return cloud_name_is(name) && cloud_id_valid(name + PREFIX_LEN) ? name + PREFIX_LEN : NULL;
}

/* Unreadable is not absent. */
static int check_readable(const json_t *volume, struct error *err)
{
    const char *problem = text_of(volume, "problem"), *id = text_of(volume, "volume_id");

    if (problem[0] == '\0')
        return 0;
    log_warn("a volume's record can't be read", KV("volume_id", id), KV("error", problem));
    return error_set(err, ERR_DATA_LOSS,
                     "the record of volume '%s' can't be read; the log has the reason", id);
}

static void learn_tag(struct driver *d, struct local_node *n, const json_t *reply)
{
    const char *tag = text_of(json_object_get(reply, "pool_tags"), n->pool);

    if (!hex_lower_valid(tag, sizeof(n->tag) - 1))
        return;
    (void)pthread_mutex_lock(&d->lock);
    (void)!str_copy(n->tag, sizeof(n->tag), tag);
    (void)pthread_mutex_unlock(&d->lock);
}

static int describe(struct driver *d, struct local_node *n, json_t *request, uint64_t deadline,
                    json_t **ret, struct error *err)
{
    if (request == NULL || json_object_set_new(request, "pool", json_string(n->pool)) < 0) {
        json_decref(request);
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    }
    if (local_call(n->node, "coffer.v1.NodeAdmin/DescribeVolumes", request, deadline, ret, err) < 0)
        return error_prefix(err, "node '%s'", n->name);
    learn_tag(d, n, *ret);
    return 0;
}

int local_describe(struct driver *d, struct local_node *n, const char *id, uint64_t deadline,
                   json_t **ret, struct error *err)
{
    AUTO_JSON json_t *reply = NULL;
    json_t *request = json_pack("{s:s+}", "name", CLOUD_VOLUME_PREFIX, id), *volume;

    if (describe(d, n, request, deadline, &reply, err) < 0)
        return -1;
    volume = json_array_get(json_object_get(reply, "volumes"), 0);
    if (volume == NULL)
        return error_set(err, ERR_NOT_FOUND, "cloud '%s' has no volume on node '%s'", id, n->name);
    if (check_readable(volume, err) < 0)
        return -1;
    *ret = json_incref(volume);
    return 0;
}

/* ---- everything ---- */

struct walk {
    struct driver *d;
    struct local_node *n;
    uint64_t deadline, probes_until;
    cloud_cb *cb;
    void *ctx;
    bool stopped;
    struct launch_vm *vms; /* of the node */
    size_t n_vms;
    bool *told; /* of each VM: with its volume */
    struct error *err;
};

static bool tell(struct walk *w, const struct cloud *c)
{
    w->stopped = !w->cb(w->ctx, c);
    return !w->stopped;
}

static int tell_volume(struct walk *w, const json_t *volume)
{
    AUTO_CLOUD struct cloud c = { .devices = NULL };
    const struct launch_vm *vm;
    const char *id;

    if (check_readable(volume, w->err) < 0)
        return -1;
    id = id_of(volume);
    if (id == NULL)
        return 0;
    if (read_volume(w->n, id, volume, &c, w->err) < 0)
        return -1;
    vm = launch_vm_find(w->vms, w->n_vms, id);
    if (vm != NULL)
        w->told[vm - w->vms] = true;
    read_vm(w->d, vm, w->probes_until, &c);
    (void)tell(w, &c);
    return 0;
}

static int tell_page(struct walk *w, const json_t *reply)
{
    const json_t *volumes = json_object_get(reply, "volumes");

    for (size_t i = 0; i < json_array_size(volumes) && !w->stopped; i++) {
        if (tell_volume(w, json_array_get(volumes, i)) < 0)
            return -1;
    }
    return 0;
}

static int tell_pages(struct walk *w)
{
    char token[VOLUME_ID_MAX + 1] = "";

    for (unsigned page = 0; page < PAGES_MAX && !w->stopped; page++) {
        AUTO_JSON json_t *reply = NULL;
        json_t *request =
            json_pack("{s:s, s:s}", "name_prefix", CLOUD_VOLUME_PREFIX, "starting_token", token);

        if (describe(w->d, w->n, request, w->deadline, &reply, w->err) < 0 ||
            tell_page(w, reply) < 0 || copy(token, sizeof(token), reply, "next_token", w->err) < 0)
            return -1;
        if (token[0] == '\0')
            return 0;
    }
    return 0;
}

/* A VM without a volume: what was deleted behind its back. It is to be seen, so that it can be
 * stopped. */
static void tell_orphans(struct walk *w)
{
    for (size_t i = 0; i < w->n_vms && !w->stopped; i++) {
        struct cloud c = { .devices = NULL };

        if (w->told[i])
            continue;
        (void)!str_copy(c.id, sizeof(c.id), w->vms[i].id);
        (void)!str_copy(c.node, sizeof(c.node), w->n->name);
        read_vm(w->d, &w->vms[i], w->probes_until, &c);
        (void)tell(w, &c);
    }
}

static int list_vms(const struct local_node *n, uint64_t deadline, struct launch_vm **ret,
                    size_t *ret_n, struct error *err)
{
    if (launch_list(n->launch, deadline, ret, ret_n, err) < 0)
        return error_prefix(err, "node '%s'", n->name);
    return 0;
}

/* The VMs first: one that is started meanwhile is seen the next time, one that ends isn't taken
 * for running long. */
static int walk_node(struct walk *w)
{
    AUTO_FREE struct launch_vm *vms = NULL;
    AUTO_FREE bool *told = NULL;

    if (list_vms(w->n, w->deadline, &vms, &w->n_vms, w->err) < 0)
        return -1;
    told = calloc(w->n_vms + 1, sizeof(*told));
    if (told == NULL)
        return error_set(w->err, ERR_EXHAUSTED, "out of memory");
    w->vms = vms;
    w->told = told;
    if (tell_pages(w) < 0)
        return -1;
    tell_orphans(w);
    return 0;
}

int local_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err)
{
    struct walk w = { .d = d,
                      .deadline = deadline,
                      .probes_until = sooner(deadline, PROBES_MS),
                      .cb = cb,
                      .ctx = ctx,
                      .err = err };

    for (size_t i = 0; i < d->n_nodes && !w.stopped; i++) {
        w.n = &d->nodes[i];
        if (walk_node(&w) < 0)
            return -1;
    }
    return 0;
}

/* ---- one ---- */

static int find_vm(const struct local_node *n, const char *id, uint64_t deadline,
                   struct launch_vm *ret, struct error *err)
{
    AUTO_FREE struct launch_vm *vms = NULL;
    const struct launch_vm *vm;
    size_t n_vms;

    if (list_vms(n, deadline, &vms, &n_vms, err) < 0)
        return -1;
    vm = launch_vm_find(vms, n_vms, id);
    if (vm == NULL)
        return error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id);
    *ret = *vm;
    return 0;
}

static int read_cloud(struct driver *d, struct local_node *n, const char *id, uint64_t deadline,
                      struct cloud *to, struct error *err)
{
    AUTO_JSON json_t *volume = NULL;
    struct launch_vm vm = { .running = false };
    struct error no_volume = ERROR_INIT, no_vm = ERROR_INIT;
    bool has_vm = find_vm(n, id, deadline, &vm, &no_vm) == 0;

    if (!has_vm && no_vm.code != ERR_NOT_FOUND)
        return error_pass(err, &no_vm);
    if (local_describe(d, n, id, deadline, &volume, &no_volume) < 0 &&
        (no_volume.code != ERR_NOT_FOUND || !has_vm))
        return error_pass(err, &no_volume);
    if (volume != NULL && read_volume(n, id, volume, to, err) < 0)
        return -1;
    (void)!str_copy(to->id, sizeof(to->id), id);
    (void)!str_copy(to->node, sizeof(to->node), n->name);
    read_vm(d, has_vm ? &vm : NULL, deadline, to);
    return 0;
}

/* The node that has the volume; else one that has a VM of it. A node that doesn't answer may be
 * the one. */
int local_find(struct driver *d, const char *id, uint64_t deadline, struct cloud *ret,
               struct error *err)
{
    AUTO_CLOUD struct cloud without = { .devices = NULL };
    struct error worst = ERROR_INIT;

    (void)error_set(&worst, ERR_NOT_FOUND, "there is no cloud '%s'", id);
    for (size_t i = 0; i < d->n_nodes; i++) {
        AUTO_CLOUD struct cloud c = { .devices = NULL };
        struct error why = ERROR_INIT;

        if (read_cloud(d, &d->nodes[i], id, deadline, &c, &why) < 0) {
            if (why.code != ERR_NOT_FOUND)
                worst = why;
            continue;
        }
        struct cloud *to = c.volume[0] != '\0' ? ret : &without;
        cloud_clear(to);
        *to = c;
        c = (struct cloud){ .devices = NULL };
        if (to == ret)
            return 0;
    }
    if (worst.code != ERR_NOT_FOUND || without.id[0] == '\0')
        return error_pass(err, &worst);
    *ret = without;
    without = (struct cloud){ .devices = NULL };
    return 0;
}

/* ---- nodes ---- */

static int read_figures(struct driver *d, const struct local_node *n, uint64_t deadline,
                        struct place_node *to, struct error *err)
{
    AUTO_FREE struct launch_vm *vms = NULL;
    AUTO_JSON json_t *reply = NULL;
    json_t *request = json_pack("{s:{s:s}}", "parameters", "pool", n->pool);
    size_t n_vms;

    if (local_call(n->controller, "csi.v1.Controller/GetCapacity", request, deadline, &reply, err) <
            0 ||
        list_vms(n, deadline, &vms, &n_vms, err) < 0)
        return -1;
    to->storage_free = (uint64_t)json_integer_value(json_object_get(reply, "available_capacity"));
    to->vms = (uint32_t)n_vms; /* one that ended keeps its place until it is stopped */
    to->memory_used = n_vms * d->config->memory;
    to->schedulable = true;
    return 0;
}

int local_nodes(struct driver *d, uint64_t deadline, struct place_node **ret, size_t *ret_n,
                struct error *err)
{
    AUTO_FREE struct place_node *nodes = calloc(d->n_nodes, sizeof(*nodes));

    if (nodes == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory");
    for (size_t i = 0; i < d->n_nodes; i++) {
        const struct local_node *n = &d->nodes[i];
        struct error why = ERROR_INIT;

        (void)!str_copy(nodes[i].name, sizeof(nodes[i].name), n->name);
        nodes[i].memory = n->memory;
        nodes[i].vms_max = n->vms_max;
        if (read_figures(d, n, sooner(deadline, NODE_MS), &nodes[i], &why) < 0)
            log_warn("a node doesn't answer", KV("node", n->name), KV("error", why.msg));
    }
    *ret = TAKE_PTR(nodes);
    *ret_n = d->n_nodes;
    return 0;
}

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
