/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/answer.h"

#include "common/strbuf.h"

const char *const cloud_status_names[5] = {
    [CLOUD_NONEXISTENT] = "nonexistent", [CLOUD_ATTACHED] = "attached",
    [CLOUD_DETACHED] = "detached",       [CLOUD_PENDING] = "pending",
    [CLOUD_FAILURE] = "failure",
};

enum cloud_status answer_status(const struct entry *e)
{
    const struct cloud *c;

    if (e == NULL)
        return CLOUD_NONEXISTENT;
    c = &e->cloud;
    if (e->op != NULL && e->op->row->pending)
        return CLOUD_PENDING;
    if (e->failure[0] != '\0')
        return CLOUD_FAILURE;
    if (c->volume[0] == '\0')
        return CLOUD_NONEXISTENT;
    if (c->vm == VM_FAILED)
        return CLOUD_FAILURE;
    if (c->open && c->vm == VM_READY)
        return CLOUD_ATTACHED;
    /* half open, or half closed: the next round takes it up */
    return c->open || c->vm != VM_NONE ? CLOUD_PENDING : CLOUD_DETACHED;
}

static json_t *text_or_null(const char *text)
{
    return text[0] != '\0' ? json_string(text) : json_null();
}

static int add(json_t *to, const char *key, json_t *value, struct error *err)
{
    return json_object_set_new(to, key, value) < 0 ? error_memory(err) : 0;
}

static int add_server_key(struct scheduler *s, json_t *to, struct error *err)
{
    const struct cloud_server_key *k = &s->server_key;

    if (s->server_key_at == 0)
        return error_set(err, ERR_UNAVAILABLE, "the server's key can't be told now: %s",
                         s->server_key_error[0] != '\0' ? s->server_key_error : "not asked yet");
    return add(to, "serverKey",
               json_pack("{s:s, s:s, s:s}", "keyId", k->key_id, "hash", k->hash, "publicKey",
                         k->public_key),
               err);
}

/* What a device binds the session of a new cloud to. */
static int add_new(struct scheduler *s, json_t *to, const char *name, struct error *err)
{
    char id[CLOUD_ID_LEN + 1], node[NODE_NAME_MAX + 1] = "", volume[CLOUD_HANDLE_MAX + 1] = "";

    if (add_server_key(s, to, err) < 0)
        return -1;
    memcpy(id, name, CLOUD_ID_LEN);
    id[CLOUD_ID_LEN] = '\0';
    if (s->config->driver->names_volumes &&
        scheduler_place_new(s, id, false, node, volume, err) < 0)
        return -1;
    if (add(to, "volumeId", text_or_null(volume), err) < 0)
        return -1;
    return add(to, "node", text_or_null(node), err);
}

/* What it needs to open the volume that is there. */
static int add_detached(struct scheduler *s, json_t *to, const struct cloud *c, const char *name,
                        struct error *err)
{
    const struct device *d = cloud_device(c, name);

    if (add_server_key(s, to, err) < 0 || add(to, "volumeId", text_or_null(c->volume), err) < 0 ||
        add(to, "uuid", text_or_null(c->uuid), err) < 0)
        return -1;
    if (d == NULL)
        return 0;
    if (add(to, "wrappedKey", json_string(d->wrapped), err) < 0)
        return -1;
    return add(to, "algorithm", json_string(d->algorithm), err);
}

static int add_pending(json_t *to, const struct entry *e, struct error *err)
{
    const struct operation *op = e->op;
    const char *lock = e->cloud.vm == VM_STARTING && e->cloud.open ? "mount" : "lock";

    if (add(to, "operation", json_string(op != NULL ? op->row->name : lock), err) < 0)
        return -1;
    return add(to, "step",
               json_string(op != NULL                   ? op->row->steps[op->step].name
                           : e->cloud.vm == VM_STARTING ? "ready"
                                                        : "vm"),
               err);
}

static int add_url(struct scheduler *s, json_t *to, const char *id, struct error *err)
{
    char url[sizeof(s->config->url) + CLOUD_ID_LEN + 2];

    (void)snprintf(url, sizeof(url), "%s%s/", s->config->url, id);
    return add(to, "url", json_string(url), err);
}

static int add_failure(struct scheduler *s, json_t *to, const struct entry *e, const char *name,
                       struct error *err)
{
    const char *reason = e->failure[0] != '\0' ? e->failure : e->cloud.reason;
    char text[CLOUD_REASON_MAX + 16];

    (void)snprintf(text, sizeof(text), "%s%s", e->failure[0] != '\0' ? "" : "the VM ended: ",
                   reason[0] != '\0' ? reason : "it doesn't say why");
    if (add(to, "reason", json_string(text), err) < 0)
        return -1;
    if (e->cloud.volume[0] == '\0')
        return add_new(s, to, name, err);
    return e->cloud.open ? 0 : add_detached(s, to, &e->cloud, name, err);
}

static int add_rest(struct scheduler *s, json_t *to, enum cloud_status status,
                    const struct entry *e, const char *name, struct error *err)
{
    switch (status) {
    case CLOUD_NONEXISTENT:
        return scheduler_may_grow(s, err) < 0 ? -1 : add_new(s, to, name, err);
    case CLOUD_ATTACHED:
        return add_url(s, to, e->cloud.id, err);
    case CLOUD_DETACHED:
        return add_detached(s, to, &e->cloud, name, err);
    case CLOUD_PENDING:
        return add_pending(to, e, err);
    case CLOUD_FAILURE:
        break;
    }
    return add_failure(s, to, e, name, err);
}

int answer_find(struct scheduler *s, const struct entry *e, const char *name, bool number,
                json_t **ret, unsigned int *ret_http, struct error *err)
{
    enum cloud_status status = answer_status(e);
    AUTO_JSON json_t *to = json_object();
    char id[CLOUD_ID_LEN + 1];

    (void)snprintf(id, sizeof(id), "%.32s", e != NULL ? e->cloud.id : name);
    if (to == NULL)
        return error_memory(err);
    if (add(to, "name", json_string(name), err) < 0 || add(to, "id", json_string(id), err) < 0 ||
        add(to, "status",
            number ? json_integer((int)status) : json_string(cloud_status_names[status]),
            err) < 0 ||
        add_rest(s, to, status, e, name, err) < 0)
        return -1;
    *ret_http = status == CLOUD_NONEXISTENT ? 404 : 200;
    *ret = TAKE_PTR(to);
    return 0;
}

json_t *answer_devices(const struct entry *e)
{
    json_t *list = json_array();

    for (size_t i = 0; i < e->cloud.n_devices; i++) {
        const struct device *d = &e->cloud.devices[i];

        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", d->name,
                                                    "fingerprint", d->fingerprint, "algorithm",
                                                    d->algorithm, "label", d->label, "publicKey",
                                                    d->public_key));
    }
    return json_pack("{s:o}", "devices", list);
}

int answer_own(struct scheduler *s, const struct entry *e, const char *name, json_t **ret,
               struct error *err)
{
    AUTO_JSON json_t *to = answer_devices(e);

    if (to == NULL)
        return error_memory(err);
    if (add_detached(s, to, &e->cloud, name, err) < 0)
        return -1;
    *ret = TAKE_PTR(to);
    return 0;
}

#define UNREADABLE "unreadable"

json_t *answer_cloud(const struct entry *e, const struct unread *u)
{
    static const char *const vms[] = {
        [VM_NONE] = "none", [VM_STARTING] = "starting", [VM_READY] = "ready", [VM_FAILED] = "failed"
    };
    const struct cloud *c = &e->cloud;
    const struct operation *op = e->op;
    const char *reason = u != NULL ? u->reason : e->failure[0] != '\0' ? e->failure : c->reason;

    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:b, s:s, s:I, s:o}", "id", c->id,
                     "status", u != NULL ? UNREADABLE : cloud_status_names[answer_status(e)],
                     "operation", op != NULL ? json_string(op->row->name) : json_null(), "step",
                     op != NULL ? json_string(op->row->steps[op->step].name) : json_null(),
                     "volumeId", text_or_null(c->volume), "node", text_or_null(c->node), "open",
                     (int)c->open, "everOpened", (int)c->ever_opened, "vm", vms[c->vm], "devices",
                     (json_int_t)c->n_devices, "reason", text_or_null(reason));
}

json_t *answer_unread(const struct unread *u)
{
    return json_pack("{s:o, s:s, s:n, s:n, s:o, s:o, s:n, s:n, s:n, s:n, s:s}", "id",
                     text_or_null(u->id), "status", UNREADABLE, "operation", "step", "volumeId",
                     text_or_null(u->volume), "node", text_or_null(u->node), "open", "everOpened",
                     "vm", "devices", "reason", u->reason);
}
