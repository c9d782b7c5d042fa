/* SPDX-License-Identifier: Apache-2.0 */
/* api_cloud.c: what devices ask for. */
#include "common/base.h"
#include "scheduler/api.h"

#include "common/b64.h"
#include "common/deadline.h"
#include "common/strbuf.h"
#include "scheduler/answer.h"

#include <time.h>

/* ---- find ---- */

/* The caller holds the lock. */
static int tell(struct api_call *c, const struct entry *e, struct error *err)
{
    json_t *value = NULL;
    unsigned int status = 0;

    if (answer_find(c->s, e, c->name, c->number, &value, &status, err) < 0)
        return -1;
    reply_json(c->reply, status, value);
    return 0;
}

/* Nothing is said of a cloud that is, or may be, one whose facts can't be read; but what runs on it
 * knows better. e NULL: the device has none that is known; its own one may be there. */
static int check_read(struct api_call *c, const struct entry *e, const char *name,
                      uint64_t patience, struct error *err)
{
    char id[CLOUD_ID_LEN + 1];

    if (e != NULL && e->op != NULL)
        return 0;
    (void)snprintf(id, sizeof(id), "%.32s", e != NULL ? e->cloud.id : name);
    return scheduler_is_read(c->s, e, id, patience, err);
}

static int find_locked(struct api_call *c, struct error *err)
{
    const struct entry *e;

    if (scheduler_is_fresh(c->s, err) < 0)
        return -1;
    e = cloud_table_by_device(c->s->table, c->name);
    return check_read(c, e, c->name, STALE_MS, err) < 0 ? -1 : tell(c, e, err);
}

int api_find(struct api_call *c, struct error *err)
{
    uint64_t began = clock_us();
    int rc;

    scheduler_lock(c->s);
    rc = find_locked(c, err);
    scheduler_unlock(c->s);
    histogram_add(&c->s->counters.find_us, clock_us() - began);
    return rc;
}

/* ---- challenges ---- */

static int challenge(struct api_call *c, const struct body_challenge *b, struct error *err)
{
    AUTO_SECRET struct secret *secret = NULL;
    const struct bytes no_info = { .data = NULL, .len = 0 };
    char token[CHALLENGE_LEN + 1], text[B64_LEN(WRAPPED_MAX) + 1];
    struct wrapped wrapped;

    if (proofs_challenge(c->s->proofs, b->name, token, &secret, err) < 0 ||
        wrap_key(b->algorithm, b->key, no_info, secret, &wrapped, err) < 0)
        return -1;
    b64_encode(text, wrapped.data, wrapped.len);
    atomic_fetch_add(&c->s->counters.challenges, 1);
    reply_json(c->reply, 200,
               json_pack("{s:s, s:s, s:I}", "challenge", token, "secret", text, "expires",
                         (json_int_t)time(NULL) + CHALLENGE_SECONDS));
    return 0;
}

int api_challenge(struct api_call *c, struct error *err)
{
    struct body_challenge b = { .key = NULL };
    int rc;

    if (body_challenge(&c->request->body, &b, err) < 0)
        return -1;
    rc = challenge(c, &b, err);
    public_key_free(b.key);
    return rc;
}

/* ---- operations ---- */

static int accepted(struct api_call *c, const char *id)
{
    char url[sizeof(c->reply->location)];

    (void)snprintf(url, sizeof(url), "/v1/clouds/%s", c->name);
    reply_json(c->reply, 202,
               json_pack("{s:s, s:s, s:s, s:s}", "name", c->name, "id", id, "status", "pending",
                         "statusUrl", url));
    memcpy(c->reply->location, url, sizeof(url));
    return 0;
}

static int new_operation(struct api_call *c, enum operation_kind kind, const char *id,
                         struct operation **ret, struct error *err)
{
    if (operation_new(kind, id, ret, err) < 0)
        return -1;
    memcpy((*ret)->device, c->name, sizeof((*ret)->device));
    return 0;
}

/* The device's cloud that has a volume; the caller holds the lock. */
static int own_entry(struct api_call *c, struct entry **ret, struct error *err)
{
    struct entry *e;

    if (scheduler_is_fresh(c->s, err) < 0)
        return -1;
    e = cloud_table_by_device(c->s->table, c->name);
    if (check_read(c, e, c->name, STALE_MS, err) < 0)
        return -1;
    if (e == NULL || (e->cloud.volume[0] == '\0' && e->op == NULL))
        return error_set(err, ERR_NOT_FOUND, "this device has no cloud");
    *ret = e;
    return 0;
}

static int busy(const struct operation *op, struct error *err)
{
    return error_set(err, ERR_ABORTED, "busy: another operation is running (%s)", op->row->name);
}

/* Joins the same operation, or starts this one and takes it. */
static int start(struct api_call *c, struct entry *e, struct operation **op, struct error *err)
{
    const struct device *device = cloud_device(&e->cloud, c->name);

    if (e->op != NULL && operation_is_same(e->op, *op))
        return accepted(c, e->cloud.id);
    if (e->op != NULL)
        return busy(e->op, err);
    if (device != NULL)
        memcpy((*op)->fingerprint, device->fingerprint, sizeof((*op)->fingerprint));
    if (scheduler_submit(c->s, e, *op, err) < 0) {
        if (err->code != ERR_EXHAUSTED)
            return -1;
        reply_refuse(c->reply, 429, "%s", err->msg);
        return 0;
    }
    *op = NULL;
    return accepted(c, e->cloud.id);
}

static int mount_locked(struct api_call *c, struct operation **op, struct error *err)
{
    struct entry *e = NULL;

    if (own_entry(c, &e, err) < 0)
        return -1;
    memcpy((*op)->id, e->cloud.id, sizeof((*op)->id));
    if (answer_status(e) == CLOUD_ATTACHED)
        return tell(c, e, err);
    return start(c, e, op, err);
}

int api_mount(struct api_call *c, struct error *err)
{
    AUTO_OPERATION struct operation *op = NULL;
    int rc;

    if (new_operation(c, OPERATION_MOUNT, "", &op, err) < 0 ||
        body_mount(&c->request->body, op, err) < 0)
        return -1;
    scheduler_lock(c->s);
    rc = mount_locked(c, &op, err);
    scheduler_unlock(c->s);
    return rc;
}

static int lock_locked(struct api_call *c, struct operation **op, struct error *err)
{
    struct entry *e = NULL;

    if (own_entry(c, &e, err) < 0)
        return -1;
    memcpy((*op)->id, e->cloud.id, sizeof((*op)->id));
    if ((*op)->kind == OPERATION_LOCK && e->op == NULL && !e->cloud.open &&
        e->cloud.vm == VM_NONE) {
        e->failure[0] = '\0'; /* seen, and what was asked for is so */
        return tell(c, e, err);
    }
    return start(c, e, op, err);
}

static int lock_or_delete(struct api_call *c, enum operation_kind kind, struct error *err)
{
    AUTO_OPERATION struct operation *op = NULL;
    int rc;

    if (new_operation(c, kind, "", &op, err) < 0)
        return -1;
    scheduler_lock(c->s);
    rc = lock_locked(c, &op, err);
    scheduler_unlock(c->s);
    return rc;
}

int api_lock(struct api_call *c, struct error *err)
{
    return body_empty(&c->request->body, err) < 0 ? -1 : lock_or_delete(c, OPERATION_LOCK, err);
}

int api_delete(struct api_call *c, struct error *err)
{
    return lock_or_delete(c, OPERATION_DELETE, err);
}

/* ---- deploy ---- */

/* What is there must be what is asked for: the uuid, this device's form and the key, of which a
 * volume that is being made may not tell yet. */
static int check_same(const struct entry *e, const struct operation *op, struct error *err)
{
    const struct device *had = cloud_device(&e->cloud, op->device);

    if (had == NULL)
        return error_set(err, ERR_EXISTS,
                         "another device's cloud has the id that follows from this name");
    if (e->cloud.volume[0] == '\0')
        return 0;
    if (strcmp(e->cloud.uuid, op->input.uuid) != 0)
        return error_set(err, ERR_EXISTS, "this device has a cloud with another uuid");
    if (strcmp(had->wrapped, op->input.device.wrapped) != 0)
        return error_set(err, ERR_EXISTS, "this device has a cloud with another wrapped key");
    if (e->cloud.commitment[0] != '\0' && strcmp(e->cloud.commitment, op->input.commitment) != 0)
        return error_set(err, ERR_EXISTS, "this device has a cloud with another commitment");
    return 0;
}

/* Of a cloud that has no volume yet: on which node it is to be. */
static int choose_node(struct api_call *c, struct operation *op, const char *volume,
                       struct error *err)
{
    char node[NODE_NAME_MAX + 1] = "", right[CLOUD_HANDLE_MAX + 1] = "";
    struct error why = ERROR_INIT;

    if (!c->s->config->driver->names_volumes || volume[0] == '\0')
        return 0;
    if (scheduler_node_of(c->s, op->id, volume, op->node, &why) == 0)
        return 0;
    if (why.code != ERR_NOT_FOUND)
        return error_pass(err, &why);
    if (scheduler_place_new(c->s, op->id, op->spread, node, right, err) < 0)
        return -1;
    return error_set(err, ERR_EXISTS, "the volume's id would be '%s'", right);
}

static int check_volume(struct api_call *c, const struct entry *e, struct operation *op,
                        const char *volume, struct error *err)
{
    if (e == NULL || e->cloud.volume[0] == '\0') {
        if (c->s->config->driver->names_volumes && op->input.session == NULL)
            return error_set(err, ERR_INVALID, "the request: field 'session' is missing");
        return choose_node(c, op, volume, err);
    }
    if (volume[0] != '\0' && strcmp(volume, e->cloud.volume) != 0)
        return error_set(err, ERR_EXISTS, "the volume's id is '%s'", e->cloud.volume);
    return 0;
}

/* An entry that find tells as pending while the volume is made. */
static int make_entry(struct api_call *c, const struct operation *op, struct entry **ret,
                      struct error *err)
{
    AUTO_CLOUD struct cloud cloud = { .devices = NULL };

    if (scheduler_may_grow(c->s, err) < 0)
        return -1;
    cloud.devices = calloc(1, sizeof(*cloud.devices));
    if (cloud.devices == NULL)
        return error_memory(err);
    cloud.devices[0] = op->input.device;
    cloud.n_devices = 1;
    memcpy(cloud.id, op->id, sizeof(cloud.id));
    return cloud_table_put(c->s->table, &cloud, ++c->s->seq, ret, err);
}

static int deploy_new(struct api_call *c, struct entry *e, struct operation **op, struct error *err)
{
    bool made = e == NULL;

    if (made && make_entry(c, *op, &e, err) < 0)
        return -1;
    if (start(c, e, op, err) == 0 && *op == NULL)
        return 0;
    if (made)
        cloud_table_remove(c->s->table, e);
    return c->reply->status != 0 ? 0 : -1;
}

static int deploy_locked(struct api_call *c, struct operation **op, const char *volume,
                         struct error *err)
{
    struct entry *e;

    if (scheduler_is_fresh(c->s, err) < 0)
        return -1;
    e = cloud_table_by_device(c->s->table, c->name);
    if (e == NULL)
        e = cloud_table_by_id(c->s->table, (*op)->id);
    else
        memcpy((*op)->id, e->cloud.id, sizeof((*op)->id));
    if (check_read(c, e, c->name, 0, err) < 0 || (e != NULL && check_same(e, *op, err) < 0))
        return -1;
    if (e != NULL && e->op != NULL)
        return start(c, e, op, err); /* joins, or is told busy */
    if (check_volume(c, e, *op, volume, err) < 0)
        return -1;
    if (e != NULL && answer_status(e) == CLOUD_ATTACHED)
        return tell(c, e, err);
    return deploy_new(c, e, op, err);
}

int api_deploy(struct api_call *c, struct error *err)
{
    AUTO_OPERATION struct operation *op = NULL;
    char volume[CLOUD_HANDLE_MAX + 1], id[CLOUD_ID_LEN + 1];
    int rc;

    (void)snprintf(id, sizeof(id), "%.32s", c->name);
    if (new_operation(c, OPERATION_CREATE, id, &op, err) < 0 ||
        body_deploy(&c->request->body, op, volume, err) < 0)
        return -1;
    if (strcmp(op->input.device.name, c->name) != 0)
        return error_set(err, ERR_INVALID,
                         "the request: field 'publicKey' isn't the key of the path's device");
    memcpy(op->fingerprint, op->input.device.fingerprint, sizeof(op->fingerprint));
    scheduler_lock(c->s);
    rc = deploy_locked(c, &op, volume, err);
    scheduler_unlock(c->s);
    return rc;
}

/* ---- devices ---- */

static int devices_locked(struct api_call *c, struct error *err)
{
    struct entry *e = NULL;
    json_t *own = NULL;

    if (own_entry(c, &e, err) < 0 || answer_own(c->s, e, c->name, &own, err) < 0)
        return -1;
    reply_json(c->reply, 200, own);
    return 0;
}

int api_devices(struct api_call *c, struct error *err)
{
    int rc;

    if (body_empty(&c->request->body, err) < 0)
        return -1;
    scheduler_lock(c->s);
    rc = devices_locked(c, err);
    scheduler_unlock(c->s);
    return rc;
}

static int need_recipients(struct api_call *c, struct error *err)
{
    return c->s->config->driver->recipients
               ? 0
               : error_set(err, ERR_UNIMPLEMENTED, "devices can't be added or removed here");
}

/* Runs it, and has the request wait for its end. */
static int start_and_wait(struct api_call *c, struct entry *e, struct operation **op,
                          struct error *err)
{
    struct operation *running;

    if (e->op == NULL && e->cloud.volume[0] == '\0')
        return error_set(err, ERR_NOT_FOUND, "this device has no cloud");
    if (e->op != NULL && !operation_is_same(e->op, *op))
        return busy(e->op, err);
    if (e->op == NULL) {
        if (start(c, e, op, err) < 0)
            return -1;
        if (c->reply->status != 202)
            return 0;
        reply_clear(c->reply);
    }
    running = e->op;
    c->waiter->op = running;
    c->waiter->next = running->waiters;
    running->waiters = c->waiter;
    c->waits = true;
    return 0;
}

static int add_locked(struct api_call *c, struct operation **op, struct error *err)
{
    const struct device *add = &(*op)->input.device, *had;
    struct entry *e = NULL, *other = cloud_table_by_device(c->s->table, add->name);

    if (own_entry(c, &e, err) < 0)
        return -1;
    memcpy((*op)->id, e->cloud.id, sizeof((*op)->id));
    had = cloud_device(&e->cloud, add->name);
    if (had != NULL && strcmp(had->wrapped, add->wrapped) == 0) {
        reply_json(c->reply, 200, answer_devices(e));
        return 0;
    }
    if (had != NULL)
        return error_set(err, ERR_EXISTS, "the device is on the list with another wrapped key");
    if (other != NULL)
        return error_set(err, ERR_EXISTS, "the device has a cloud already");
    if (check_read(c, NULL, add->name, 0, err) < 0)
        return -1;
    return start_and_wait(c, e, op, err);
}

int api_add(struct api_call *c, struct error *err)
{
    AUTO_OPERATION struct operation *op = NULL;
    int rc;

    if (need_recipients(c, err) < 0 || new_operation(c, OPERATION_ADD, "", &op, err) < 0 ||
        body_add(&c->request->body, op, err) < 0)
        return -1;
    scheduler_lock(c->s);
    rc = add_locked(c, &op, err);
    scheduler_unlock(c->s);
    return rc;
}

static int remove_locked(struct api_call *c, struct operation **op, const char *name,
                         struct error *err)
{
    const struct device *gone;
    struct entry *e = NULL;

    if (own_entry(c, &e, err) < 0)
        return -1;
    memcpy((*op)->id, e->cloud.id, sizeof((*op)->id));
    gone = cloud_device(&e->cloud, name);
    if (gone == NULL)
        return error_set(err, ERR_NOT_FOUND, "the device to remove isn't on the list");
    if (e->cloud.n_devices == 1)
        return error_set(err, ERR_PRECONDITION, "the last device can't be removed");
    if (operation_text(&(*op)->input.remove, gone->fingerprint, err) < 0)
        return -1;
    return start_and_wait(c, e, op, err);
}

int api_remove(struct api_call *c, struct error *err)
{
    AUTO_OPERATION struct operation *op = NULL;
    char name[DEVICE_NAME_LEN + 1];
    int rc;

    if (need_recipients(c, err) < 0 || new_operation(c, OPERATION_REMOVE, "", &op, err) < 0 ||
        body_remove(&c->request->body, op, name, err) < 0)
        return -1;
    scheduler_lock(c->s);
    rc = remove_locked(c, &op, name, err);
    scheduler_unlock(c->s);
    return rc;
}

void api_end(struct scheduler *s, const char *name, const struct error *err, struct reply *r)
{
    struct entry *e;
    json_t *list = NULL;

    if (err != NULL) {
        reply_error(r, err);
        return;
    }
    scheduler_lock(s);
    e = cloud_table_by_device(s->table, name);
    if (e != NULL)
        list = answer_devices(e);
    scheduler_unlock(s);
    if (e != NULL)
        reply_json(r, 200, list);
    else /* it removed itself */
        reply_json(r, 200, json_pack("{s:[]}", "devices"));
}
