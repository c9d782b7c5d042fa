/* SPDX-License-Identifier: Apache-2.0 */
/* driver_stub_steps.c: what changes the facts. */
#include "common/base.h"
#include "scheduler/driver_stub.h"

#ifdef COFFER_FAULT

#include "scheduler/driver_stub_session.h"

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
        return error_memory(err);
    return stub_keep(d, err);
}

int stub_create_volume(struct driver *d, const char *id, const char *node,
                       const struct cloud_seed *seed, uint64_t deadline, struct error *err)
{
    int rc;

    if (stub_play(d, "create_volume", deadline, err) < 0)
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
    rc = facts == NULL ? error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id)
                       : stub_keep(d, err);
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
    stub_copy_text(commitment, sizeof(commitment), json_object_get(d->clouds, c->id), "commitment");
    (void)pthread_mutex_unlock(&d->lock);
    if (d->private_key[0] == '\0')
        return 0;
    return stub_session_check(d->private_key, c, s, commitment, err);
}

int stub_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "open", "ever_opened" };

    if (stub_play(d, "attach", deadline, err) < 0 || (!c->open && check_session(d, c, s, err) < 0))
        return -1;
    return set_flags(d, c->id, keys, true, err);
}

int stub_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "vm", NULL };

    return stub_play(d, "start", deadline, err) < 0 ? -1 : set_flags(d, c->id, keys, true, err);
}

int stub_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
               struct error *err)
{
    AUTO_CLOUD struct cloud now = { .devices = NULL };

    if (stub_play(d, "ready", deadline, err) < 0 ||
        stub_find(d, c->id, c->node, deadline, &now, err) < 0)
        return -1;
    if (now.vm == VM_FAILED || now.vm == VM_NONE)
        return error_set(err, ERR_PRECONDITION, "the VM ended: %s", now.reason);
    *ret = now.vm == VM_READY;
    return 0;
}

int stub_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "vm", NULL };

    return stub_play(d, "stop", deadline, err) < 0 ? -1 : set_flags(d, c->id, keys, false, err);
}

int stub_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    static const char *const keys[2] = { "open", NULL };

    return stub_play(d, "detach", deadline, err) < 0 ? -1 : set_flags(d, c->id, keys, false, err);
}

int stub_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err)
{
    int rc;

    if (stub_play(d, "delete_volume", deadline, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    (void)json_object_del(d->clouds, c->id);
    rc = stub_keep(d, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

/* ---- devices ---- */

static json_t *write_device(const struct device *from)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", from->name, "fingerprint",
                     from->fingerprint, "algorithm", from->algorithm, "label", from->label,
                     "public_key", from->public_key, "wrapped", from->wrapped);
}

int stub_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                    const struct cloud_session *s, uint64_t deadline, struct error *err)
{
    json_t *devices;
    int rc;

    if (stub_play(d, "add_device", deadline, err) < 0 || check_session(d, c, s, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    devices = json_object_get(json_object_get(d->clouds, c->id), "devices");
    rc = json_array_append_new(devices, write_device(add)) < 0
             ? error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", c->id)
             : stub_keep(d, err);
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

int stub_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                       const struct cloud_session *s, const struct cloud_new_key *key,
                       uint64_t deadline, struct error *err)
{
    int rc;

    if (stub_play(d, "remove_device", deadline, err) < 0 || check_session(d, c, s, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&d->lock);
    rc = rekey(json_object_get(d->clouds, c->id), fingerprint, key, err);
    if (rc == 0)
        rc = stub_keep(d, err);
    (void)pthread_mutex_unlock(&d->lock);
    return rc;
}

#endif
