/* SPDX-License-Identifier: Apache-2.0 */
/* A cloud's volume: its claim, made and deleted. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/fault.h"

static const json_t *annotations_of(const json_t *obj)
{
    return json_object_get(json_object_get(obj, "metadata"), "annotations");
}

static const char *uid_of(const json_t *obj)
{
    return kube_text(json_object_get(obj, "metadata"), "uid");
}

/* ---- the claim ---- */

/* What says which key it is: all of the device that made it, but for its label. */
static bool same_seed(const json_t *claim, const struct cloud_seed *seed)
{
    const char *text = kube_text(annotations_of(claim), KUBE_DEVICES);
    AUTO_JSON json_t *devices = NULL;
    const json_t *item;
    size_t i;

    if (strcmp(kube_text(annotations_of(claim), KUBE_UUID), seed->uuid) != 0 ||
        strcmp(kube_text(annotations_of(claim), KUBE_COMMITMENT), seed->commitment) != 0 ||
        json_parse(text, strlen(text), "the list of devices", &devices, NULL) < 0)
        return false;
    json_array_foreach (devices, i, item) {
        if (strcmp(kube_text(item, "name"), seed->name) == 0)
            return strcmp(kube_text(item, "wrapped"), seed->wrapped) == 0 &&
                   strcmp(kube_text(item, "publicKey"), seed->public_key) == 0 &&
                   strcmp(kube_text(item, "algorithm"), seed->algorithm) == 0;
    }
    return false;
}

static int check_claim(const json_t *claim, const struct cloud_seed *seed, struct error *err)
{
    if (json_object_get(json_object_get(claim, "metadata"), "deletionTimestamp") != NULL)
        return error_set(err, ERR_ABORTED, "the cloud's volume is being deleted");
    if (!same_seed(claim, seed))
        return error_set(err, ERR_EXISTS, "there is a volume of another device or key");
    return 0;
}

/* Of this device alone, and no volume belongs to it: what a create that was killed has left. Its
 * key is gone, as a device keeps none, and find tells nobody of it. */
static bool is_left_over(const json_t *claim, const struct cloud_seed *seed)
{
    const char *text = kube_text(annotations_of(claim), KUBE_DEVICES);
    AUTO_JSON json_t *devices = NULL;

    return strcmp(kube_text(json_object_get(claim, "status"), "phase"), "Pending") == 0 &&
           kube_text(json_object_get(claim, "spec"), "volumeName")[0] == '\0' &&
           kube_text(annotations_of(claim), KUBE_OPENED)[0] == '\0' &&
           json_parse(text, strlen(text), "the list of devices", &devices, NULL) == 0 &&
           json_array_size(devices) == 1 &&
           strcmp(kube_text(json_array_get(devices, 0), "name"), seed->name) == 0;
}

static int wait_claim_gone(struct driver *d, const char *id, const char *uid, uint64_t deadline,
                           struct error *err)
{
    for (unsigned n = 0;;) {
        AUTO_JSON json_t *claim = NULL;
        struct error e = ERROR_INIT;

        if (kube_get(d, KUBE_CLAIM, id, deadline, &claim, &e) < 0)
            return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
        if (strcmp(uid_of(claim), uid) != 0) /* another one by now */
            return 0;
        if (kube_pause(&n, deadline, "the cloud's claim isn't gone yet", "", err) < 0)
            return -1;
    }
}

/* ERR_NOT_FOUND: there is none, or none any more. */
static int get_claim(struct driver *d, const char *id, const struct cloud_seed *seed,
                     uint64_t deadline, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *claim = NULL;

    if (kube_get(d, KUBE_CLAIM, id, deadline, &claim, err) < 0)
        return -1;
    if (same_seed(claim, seed) || !is_left_over(claim, seed)) {
        *ret = TAKE_PTR(claim);
        return 0;
    }
    if (kube_delete(d, KUBE_CLAIM, id, deadline, err) < 0 ||
        wait_claim_gone(d, id, uid_of(claim), deadline, err) < 0)
        return -1;
    return error_set(err, ERR_NOT_FOUND, "the claim of another key was deleted");
}

/* Who writes it first has it; who comes later finds out whether it is the same. */
static int have_claim(struct driver *d, const char *id, const struct cloud_seed *seed,
                      uint64_t deadline, json_t **ret, struct error *err)
{
    AUTO_JSON json_t *claim = NULL;
    struct error e = ERROR_INIT;

    if (get_claim(d, id, seed, deadline, &claim, &e) < 0) {
        if (e.code != ERR_NOT_FOUND)
            return error_pass(err, &e);
        if (kube_create(d, KUBE_CLAIM, kube_claim_new(d, id, seed), deadline, &e) < 0 &&
            e.code != ERR_EXISTS)
            return error_pass(err, &e);
        FAULT_POINT("kubernetes:claim");
        if (kube_get(d, KUBE_CLAIM, id, deadline, &claim, err) < 0)
            return -1;
    }
    if (check_claim(claim, seed, err) < 0)
        return -1;
    *ret = TAKE_PTR(claim);
    return 0;
}

static bool is_bound(const json_t *claim)
{
    return strcmp(kube_text(json_object_get(claim, "status"), "phase"), "Bound") == 0;
}

static int annotate(struct driver *d, const char *id, const char *key, const char *value,
                    uint64_t deadline, struct error *err)
{
    return kube_patch(d, KUBE_CLAIM, id,
                      json_pack("{s:{s:{s:s}}}", "metadata", "annotations", key, value), deadline,
                      err);
}

/* csi-provisioner takes the node back where it has no room. */
static int judge_claim(const json_t *claim, const char *node, const struct kube_trouble *trouble,
                       struct error *err)
{
    if (strcmp(kube_text(json_object_get(claim, "status"), "phase"), "Lost") == 0)
        return error_set(err, ERR_DATA_LOSS, "the cloud's PersistentVolume is gone");
    if (kube_text(annotations_of(claim), KUBE_NODE)[0] == '\0')
        return error_set(err, ERR_EXHAUSTED, "the node '%s' has no room for the volume%s%s", node,
                         trouble->text[0] == '\0' ? "" : ": ", trouble->text);
    if (trouble->code != ERR_OK && trouble->code != ERR_UNAVAILABLE)
        return error_set(err, trouble->code, "%s", trouble->text);
    return 0;
}

static int wait_bound(struct driver *d, const char *id, const char *node, uint64_t deadline,
                      json_t **ret, struct error *err)
{
    for (unsigned n = 0;;) {
        AUTO_JSON json_t *claim = NULL;
        struct kube_trouble trouble = { .code = ERR_OK };

        if (kube_get(d, KUBE_CLAIM, id, deadline, &claim, err) < 0)
            return -1;
        if (is_bound(claim)) {
            *ret = TAKE_PTR(claim);
            return 0;
        }
        if (kube_trouble(d, uid_of(claim), deadline, &trouble, err) < 0 ||
            judge_claim(claim, node, &trouble, err) < 0 ||
            kube_pause(&n, deadline, "the volume isn't provisioned yet", trouble.text, err) < 0)
            return -1;
    }
}

/* Where the node is said already, the Secret was made before it, and csi-provisioner may be reading
 * it just now. */
static int provision(struct driver *d, const json_t *claim, const char *id, const char *node,
                     const struct cloud_seed *seed, uint64_t deadline, json_t **ret,
                     struct error *err)
{
    if (strcmp(kube_text(annotations_of(claim), KUBE_NODE), node) == 0)
        return wait_bound(d, id, node, deadline, ret, err);
    if (kube_replace_secret(d, KUBE_SECRET_KEY, id, kube_secret_key_new(d, id, seed), deadline,
                            err) < 0)
        return -1;
    FAULT_POINT("kubernetes:key-secret");
    if (annotate(d, id, KUBE_NODE, node, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:selected-node");
    return wait_bound(d, id, node, deadline, ret, err);
}

int kube_create_volume(struct driver *d, const char *id, const char *node,
                       const struct cloud_seed *seed, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *claim = NULL, *bound = NULL;
    char handle[CLOUD_HANDLE_MAX + 1];

    if (have_claim(d, id, seed, deadline, &claim, err) < 0)
        return -1;
    if (is_bound(claim))
        bound = json_incref(claim);
    else if (provision(d, claim, id, node, seed, deadline, &bound, err) < 0)
        return -1;
    if (kube_volume_handle(d, bound, deadline, handle, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:bound");
    /* so that a round needs no request for each volume */
    return annotate(d, id, KUBE_VOLUME, handle, deadline, err);
}

/* ---- deleting ---- */

static int volume_gone(struct driver *d, const char *name, uint64_t deadline, bool *ret,
                       struct kube_trouble *why, struct error *err)
{
    char path[KUBE_PATH_MAX + 1];
    struct kube_request r = { .method = "GET", .path = path, .deadline = deadline };
    AUTO_JSON json_t *volume = NULL;
    struct error e = ERROR_INIT;

    (void)snprintf(path, sizeof(path), "/api/v1/persistentvolumes/%.253s", name);
    if (kube_call(d->api, &r, &volume, &e) < 0) {
        *ret = e.code == ERR_NOT_FOUND;
        return *ret ? 0 : error_pass(err, &e);
    }
    /* a class that retains: the administrator's from now on */
    const json_t *spec = json_object_get(volume, "spec");
    const json_t *status = json_object_get(volume, "status");
    *ret = strcmp(kube_text(spec, "persistentVolumeReclaimPolicy"), "Delete") != 0 &&
           strcmp(kube_text(status, "phase"), "Released") == 0;
    (void)snprintf(why->text, sizeof(why->text), "%s", kube_text(status, "message"));
    return 0;
}

static int wait_volume_gone(struct driver *d, const char *name, uint64_t deadline,
                            struct error *err)
{
    for (unsigned n = 0;;) {
        struct kube_trouble why = { .code = ERR_OK };
        bool gone = false;

        if (volume_gone(d, name, deadline, &gone, &why, err) < 0)
            return -1;
        if (gone)
            return 0;
        if (kube_pause(&n, deadline, "the cloud's volume isn't deleted yet", why.text, err) < 0)
            return -1;
    }
}

static int delete_claim(struct driver *d, const char *id, uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *claim = NULL;
    struct error e = ERROR_INIT;

    if (kube_get(d, KUBE_CLAIM, id, deadline, &claim, &e) < 0)
        return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
    const char *volume = kube_text(json_object_get(claim, "spec"), "volumeName");
    if (kube_delete(d, KUBE_CLAIM, id, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:claim-deleted");
    if (wait_claim_gone(d, id, uid_of(claim), deadline, err) < 0)
        return -1;
    return volume[0] == '\0' ? 0 : wait_volume_gone(d, volume, deadline, err);
}

/* The claim last: whatever is killed, the claim is found again, and with it the rest.
 * csi-provisioner deletes a volume without its Secret as well. */
int kube_delete_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err)
{
    static const enum kube_kind before[] = { KUBE_INGRESS,    KUBE_SERVICE,
                                             KUBE_REQUEST,    KUBE_SECRET_REQUEST,
                                             KUBE_DEPLOYMENT, KUBE_SECRET_SESSION,
                                             KUBE_SECRET_KEY };

    for (size_t i = 0; i < ARRAY_SIZE(before); i++) {
        if (kube_delete(d, before[i], c->id, deadline, err) < 0)
            return -1;
        FAULT_POINT("kubernetes:object-deleted");
    }
    return delete_claim(d, c->id, deadline, err);
}
