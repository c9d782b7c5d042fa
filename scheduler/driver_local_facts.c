/* SPDX-License-Identifier: Apache-2.0 */
/* driver_local_facts.c: what there is of one cloud: the volume that a node's record tells of and
 * the VM that coffer-launch lists, by the cloud's id put together. */
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
#define PROBE_MS   1000u /* for one VM to answer, where nobody waits for it */
#define OTHER_MS   5000u /* for a node on which the cloud isn't thought to be */

const char *local_text(const json_t *obj, const char *key)
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

void local_read_vm(struct driver *d, const struct launch_vm *vm, uint64_t deadline,
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
    to->vm = local_vm_answers(d, vm->id, vm->pid, deadline_sooner(deadline, PROBE_MS))
                 ? VM_READY
                 : VM_STARTING;
}

/* ---- volumes ---- */

int local_copy(char *to, size_t size, const json_t *obj, const char *key, struct error *err)
{
    return str_copy(to, size, local_text(obj, key)) == 0
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
    return local_copy(to->fingerprint, sizeof(to->fingerprint), from, "fingerprint", err) < 0 ||
                   local_copy(to->algorithm, sizeof(to->algorithm), from, "algorithm", err) < 0 ||
                   local_copy(to->label, sizeof(to->label), from, "label", err) < 0 ||
                   local_copy(to->public_key, sizeof(to->public_key), from, "public_key", err) <
                       0 ||
                   local_copy(to->wrapped, sizeof(to->wrapped), from, "wrapped", err) < 0
               ? -1
               : arcs_name(to->public_key, to->name, err);
}

/* What this process, or libcrypto in it, lacks says nothing of a key. */
static bool is_of_us(const struct error *why)
{
    return why->code == ERR_EXHAUSTED || why->code == ERR_UNAVAILABLE;
}

/* A recipient that is no RSA key (a pool's escrow key may be) is no device of the user's. */
static int read_devices(const json_t *list, struct cloud *to, struct error *err)
{
    const json_t *item;
    size_t i;

    to->devices = calloc(json_array_size(list) + 1, sizeof(*to->devices));
    if (to->devices == NULL)
        return error_memory(err);
    json_array_foreach (list, i, item) {
        struct error why = ERROR_INIT;

        if (read_device(item, &to->devices[to->n_devices], &why) == 0)
            to->n_devices++;
        else if (is_of_us(&why))
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

int local_read_volume(const struct local_node *n, const char *id, const json_t *v, struct cloud *to,
                      struct error *err)
{
    to->ever_opened = may_have_data(local_text(v, "state"));
    to->open = json_is_true(json_object_get(v, "open"));
    return str_copy(to->id, sizeof(to->id), id) < 0 ||
                   str_copy(to->node, sizeof(to->node), n->name) < 0 ||
                   local_copy(to->volume, sizeof(to->volume), v, "volume_id", err) < 0 ||
                   local_copy(to->uuid, sizeof(to->uuid), v, "uuid", err) < 0 ||
                   local_copy(to->commitment, sizeof(to->commitment), v, "commitment", err) < 0 ||
                   read_devices(json_object_get(v, "recipients"), to, err) < 0
               ? -1
               : 0;
}

const char *local_cloud_id(const json_t *volume)
{
    const char *name = local_text(volume, "name");

    return cloud_name_is(name) && cloud_id_valid(name + PREFIX_LEN) ? name + PREFIX_LEN : NULL;
}

static int check_readable(const json_t *volume, struct error *err)
{
    const char *problem = local_text(volume, "problem"), *id = local_text(volume, "volume_id");

    if (problem[0] == '\0')
        return 0;
    log_warn("a volume's record can't be read", KV("volume_id", id), KV("error", problem));
    return error_set(err, ERR_DATA_LOSS,
                     "the record of volume '%s' can't be read; the log has the reason", id);
}

static void learn_tag(struct driver *d, struct local_node *n, const json_t *reply)
{
    const char *tag = local_text(json_object_get(reply, "pool_tags"), n->pool);

    if (!hex_lower_valid(tag, sizeof(n->tag) - 1))
        return;
    (void)pthread_mutex_lock(&d->lock);
    (void)!str_copy(n->tag, sizeof(n->tag), tag);
    (void)pthread_mutex_unlock(&d->lock);
}

/* NOT_FOUND is for callers: a node says what there is, or fails to. */
static int not_told(const struct local_node *n, struct error *err)
{
    if (err->code == ERR_NOT_FOUND)
        (void)error_recode(err, ERR_UNAVAILABLE);
    return error_prefix(err, "node '%s'", n->name);
}

int local_describe_page(struct driver *d, struct local_node *n, json_t *request, local_call_fn *ask,
                        uint64_t deadline, json_t **ret, struct error *err)
{
    if (request == NULL || json_object_set_new(request, "pool", json_string(n->pool)) < 0) {
        json_decref(request);
        return error_memory(err);
    }
    if (ask(n->node, "coffer.v1.NodeAdmin/DescribeVolumes", request, deadline, ret, err) < 0)
        return not_told(n, err);
    learn_tag(d, n, *ret);
    return 0;
}

int local_describe(struct driver *d, struct local_node *n, const char *id, uint64_t deadline,
                   json_t **ret, struct error *err)
{
    AUTO_JSON json_t *reply = NULL;
    json_t *request = json_pack("{s:s+}", "name", CLOUD_VOLUME_PREFIX, id), *volume;

    if (local_describe_page(d, n, request, local_call, deadline, &reply, err) < 0)
        return -1;
    volume = json_array_get(json_object_get(reply, "volumes"), 0);
    if (volume == NULL)
        return error_set(err, ERR_NOT_FOUND, "cloud '%s' has no volume on node '%s'", id, n->name);
    if (check_readable(volume, err) < 0)
        return -1;
    *ret = json_incref(volume);
    return 0;
}

int local_list_vms(const struct local_node *n, uint64_t deadline, struct launch_vm **ret,
                   size_t *ret_n, struct error *err)
{
    return launch_list(n->launch, deadline, ret, ret_n, err) < 0 ? not_told(n, err) : 0;
}

/* ---- one ---- */

static int find_vm(const struct local_node *n, const char *id, uint64_t deadline,
                   struct launch_vm *ret, struct error *err)
{
    AUTO_FREE struct launch_vm *vms = NULL;
    const struct launch_vm *vm;
    size_t n_vms;

    if (local_list_vms(n, deadline, &vms, &n_vms, err) < 0)
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
    if (volume != NULL && local_read_volume(n, id, volume, to, err) < 0)
        return is_of_us(err) ? -1 : error_recode(err, ERR_DATA_LOSS);
    (void)!str_copy(to->id, sizeof(to->id), id);
    (void)!str_copy(to->node, sizeof(to->node), n->name);
    local_read_vm(d, has_vm ? &vm : NULL, deadline, to);
    return 0;
}

/* ---- on any node ---- */

struct search {
    struct driver *d;
    const char *id, *node; /* where it is thought to be; "" */
    uint64_t deadline;
    struct cloud *ret;    /* with a volume */
    struct cloud without; /* a VM alone */
    struct error worst;
};

/* A node that doesn't answer may be the one, unless it is thought to be elsewhere. A record that
 * can't be read is this cloud's wherever it is. */
static void note_failure(struct search *s, bool likely, const struct error *why)
{
    if (why->code == ERR_DATA_LOSS || (why->code != ERR_NOT_FOUND && likely))
        s->worst = *why;
}

static bool search_node(struct search *s, struct local_node *n, bool likely)
{
    AUTO_CLOUD struct cloud c = { .devices = NULL };
    struct error why = ERROR_INIT;
    uint64_t deadline = likely ? s->deadline : deadline_sooner(s->deadline, OTHER_MS);
    struct cloud *to;

    if (read_cloud(s->d, n, s->id, deadline, &c, &why) < 0) {
        note_failure(s, likely, &why);
        return false;
    }
    to = c.volume[0] != '\0' ? s->ret : &s->without;
    cloud_clear(to);
    *to = c;
    c = (struct cloud){ .devices = NULL };
    return to == s->ret;
}

/* The node where it is thought to be first: so one that hangs holds up its own clouds alone. */
static bool search_nodes(struct search *s)
{
    bool thought = s->node[0] != '\0';

    for (unsigned int pass = thought ? 0 : 1; pass < 2; pass++) {
        for (size_t i = 0; i < s->d->n_nodes; i++) {
            struct local_node *n = &s->d->nodes[i];
            bool likely = !thought || strcmp(n->name, s->node) == 0;

            if ((!thought || likely == (pass == 0)) && (likely || !local_is_silent(s->d, n)) &&
                search_node(s, n, likely))
                return true;
        }
    }
    return false;
}

/* The node that has the volume; else one that has a VM of it. */
int local_find(struct driver *d, const char *id, const char *node, uint64_t deadline,
               struct cloud *ret, struct error *err)
{
    struct search s = { .d = d, .id = id, .node = node, .deadline = deadline, .ret = ret };

    (void)error_set(&s.worst, ERR_NOT_FOUND, "there is no cloud '%s'", id);
    if (search_nodes(&s)) {
        cloud_clear(&s.without);
        return 0;
    }
    if (s.worst.code != ERR_NOT_FOUND || s.without.id[0] == '\0') {
        cloud_clear(&s.without);
        return error_pass(err, &s.worst);
    }
    *ret = s.without;
    return 0;
}
