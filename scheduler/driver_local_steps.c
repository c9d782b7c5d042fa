/* SPDX-License-Identifier: Apache-2.0 */
/* driver_local_steps.c: what changes a cloud: CSI calls to its node, and coffer-launch. */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "scheduler/launch_client.h"

#define REASON   "coffer-scheduler" /* in coffer-node's audit lines */
#define PROBE_MS 5000u              /* its socket takes the question before the VM does */

/* ---- parts of requests ---- */

static json_t *capability(const struct driver *d)
{
    return json_pack("{s:{s:s}, s:{s:s}}", "mount", "fs_type", d->config->fs, "access_mode", "mode",
                     "SINGLE_NODE_WRITER");
}

/* No session: the volume is open already, and none is needed. */
static json_t *session_secrets(const struct cloud_session *s)
{
    if (s->session == NULL)
        return json_object();
    return json_pack("{s:s, s:s, s:s}", "session", s->session, "serverKey", s->server_key,
                     "fingerprint", s->fingerprint);
}

static json_t *place_of(const struct driver *d, const struct cloud *c, const char *last)
{
    return json_sprintf("%s/%s/%s", d->volumes, c->id, last);
}

static int prefixed(int r, const struct local_node *n, struct error *err)
{
    return r == 0 ? 0 : error_prefix(err, "node '%s'", n->name);
}

/* ---- the volume ---- */

static json_t *seed_secrets(const struct cloud_seed *seed)
{
    json_t *secrets = json_pack("{s:s, s:s, s:s, s:s, s:s}", "uuid", seed->uuid, "commitment",
                                seed->commitment, "publicKey", seed->public_key, "algorithm",
                                seed->algorithm, "wrapped", seed->wrapped);

    if (secrets != NULL && seed->label != NULL && seed->label[0] != '\0' &&
        json_object_set_new(secrets, "label", json_string(seed->label)) < 0) {
        json_decref(secrets);
        return NULL;
    }
    return secrets;
}

int local_create_volume(struct driver *d, const char *id, const char *node,
                        const struct cloud_seed *seed, uint64_t deadline, struct error *err)
{
    struct local_node *n;
    json_t *request;

    if (local_node_find(d, node, &n, err) < 0)
        return -1;
    request = json_pack("{s:s+, s:{s:I}, s:[o], s:{s:s, s:s, s:s, s:s}, s:o}", "name",
                        CLOUD_VOLUME_PREFIX, id, "capacity_range", "required_bytes",
                        (json_int_t)d->config->size, "volume_capabilities", capability(d),
                        "parameters", "pool", n->pool, "kms", n->kms, "keySource", "client",
                        "tenant", d->config->tenant, "secrets", seed_secrets(seed));
    return prefixed(
        local_call(n->controller, "csi.v1.Controller/CreateVolume", request, deadline, NULL, err),
        n, err);
}

int local_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                        struct error *err)
{
    struct local_node *n;

    if (c->volume[0] == '\0')
        return 0;
    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    return prefixed(local_call(n->controller, "csi.v1.Controller/DeleteVolume",
                               json_pack("{s:s}", "volume_id", c->volume), deadline, NULL, err),
                    n, err);
}

/* ---- open and closed ---- */

/* What CreateVolume returned, from the record: a session is of one volume, uuid and key, so a
 * record that lies gets a refusal. */
static json_t *context_of(const json_t *volume)
{
    return json_pack("{s:O, s:O, s:O, s:O}", "tenant", json_object_get(volume, "tenant"), "uuid",
                     json_object_get(volume, "uuid"), "kms", json_object_get(volume, "kms"),
                     "keySource", json_object_get(volume, "key_source"));
}

static int stage(struct driver *d, struct local_node *n, const struct cloud *c,
                 const struct cloud_session *s, const json_t *volume, uint64_t deadline,
                 struct error *err)
{
    json_t *request =
        json_pack("{s:s, s:o, s:o, s:o, s:o}", "volume_id", c->volume, "staging_target_path",
                  place_of(d, c, "staging"), "volume_capability", capability(d), "volume_context",
                  context_of(volume), "secrets", session_secrets(s));

    return local_call(n->node, "csi.v1.Node/NodeStageVolume", request, deadline, NULL, err);
}

static int publish(struct driver *d, struct local_node *n, const struct cloud *c,
                   const json_t *volume, uint64_t deadline, struct error *err)
{
    json_t *request =
        json_pack("{s:s, s:o, s:o, s:o, s:o}", "volume_id", c->volume, "staging_target_path",
                  place_of(d, c, "staging"), "target_path", place_of(d, c, "volume"),
                  "volume_capability", capability(d), "volume_context", context_of(volume));

    return local_call(n->node, "csi.v1.Node/NodePublishVolume", request, deadline, NULL, err);
}

int local_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                 uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *volume = NULL;
    struct local_node *n;

    if (local_node_find(d, c->node, &n, err) < 0 ||
        local_describe(d, n, c->id, deadline, &volume, err) < 0)
        return -1;
    return prefixed(
        stage(d, n, c, s, volume, deadline, err) < 0 ? -1 : publish(d, n, c, volume, deadline, err),
        n, err);
}

int local_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    struct local_node *n;
    json_t *unpublish, *unstage;

    if (c->volume[0] == '\0')
        return 0;
    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    unpublish =
        json_pack("{s:s, s:o}", "volume_id", c->volume, "target_path", place_of(d, c, "volume"));
    if (local_call(n->node, "csi.v1.Node/NodeUnpublishVolume", unpublish, deadline, NULL, err) < 0)
        return prefixed(-1, n, err);
    unstage = json_pack("{s:s, s:o}", "volume_id", c->volume, "staging_target_path",
                        place_of(d, c, "staging"));
    return prefixed(
        local_call(n->node, "csi.v1.Node/NodeUnstageVolume", unstage, deadline, NULL, err), n, err);
}

/* ---- the VM ---- */

int local_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    struct local_node *n;
    bool started = false;

    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    if (launch_start(n->launch, c->id, deadline, &started, err) < 0)
        return prefixed(-1, n, err);
    if (started)
        local_vm_forget(d, c->id);
    return 0;
}

int local_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
                struct error *err)
{
    AUTO_FREE struct launch_vm *vms = NULL;
    const struct launch_vm *vm;
    const uint64_t soon = deadline_in(PROBE_MS);
    struct local_node *n;
    size_t n_vms;

    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    if (launch_list(n->launch, deadline, &vms, &n_vms, err) < 0)
        return prefixed(-1, n, err);
    vm = launch_vm_find(vms, n_vms, c->id);
    if (vm == NULL)
        return error_set(err, ERR_PRECONDITION, "the VM isn't there any more");
    if (!vm->running)
        return error_set(err, ERR_PRECONDITION, "the VM ended: %s", vm->status);
    *ret = local_vm_answers(d, c->id, vm->pid, soon < deadline ? soon : deadline);
    return 0;
}

int local_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    struct local_node *n;

    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    local_vm_forget(d, c->id);
    return prefixed(launch_stop(n->launch, c->id, d->config->stop_seconds * 1000, deadline, err), n,
                    err);
}

/* ---- devices ---- */

int local_add_device(struct driver *d, const struct cloud *c, const struct device *add,
                     const struct cloud_session *s, uint64_t deadline, struct error *err)
{
    struct local_node *n;
    json_t *request;

    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    request = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "volume_id", c->volume, "public_key",
                        add->public_key, "algorithm", add->algorithm, "label", add->label,
                        "wrapped", add->wrapped, "reason", REASON, "secrets", session_secrets(s));
    return prefixed(
        local_call(n->node, "coffer.v1.NodeAdmin/AddRecipient", request, deadline, NULL, err), n,
        err);
}

int local_remove_device(struct driver *d, const struct cloud *c, const char *fingerprint,
                        const struct cloud_session *s, const struct cloud_new_key *key,
                        uint64_t deadline, struct error *err)
{
    struct local_node *n;
    json_t *fresh, *request;

    if (local_node_find(d, c->node, &n, err) < 0)
        return -1;
    fresh = json_pack("{s:s, s:s, s:s, s:s, s:s}", "session", key->session.session, "serverKey",
                      key->session.server_key, "fingerprint", key->session.fingerprint,
                      "commitment", key->commitment, "recipients", key->recipients);
    request =
        json_pack("{s:s, s:s, s:s, s:o, s:o}", "volume_id", c->volume, "fingerprint", fingerprint,
                  "reason", REASON, "secrets", session_secrets(s), "new_secrets", fresh);
    return prefixed(
        local_call(n->node, "coffer.v1.NodeAdmin/RemoveRecipient", request, deadline, NULL, err), n,
        err);
}
