/* SPDX-License-Identifier: Apache-2.0 */
/* What the API server has of clouds: their claims, Deployments and pods, by label. */
#include "common/base.h"
#include "scheduler/driver_kubernetes.h"

#include "common/parse.h"
#include "common/strbuf.h"
#include "scheduler/driver_kubernetes_objects.h"

#define PAGE 40u /* a pod has some 12 KiB */

/* ---- gathering: id -> {"claim": {}, "deployment": {}, "request": {}, "pods": [],
 * "problem": ""} ---- */

struct gather {
    json_t *clouds;
    const char *part; /* "claim", "deployment", "pods" */
};

static const json_t *metadata(const json_t *item)
{
    return json_object_get(item, "metadata");
}

static const char *annotation(const json_t *item, const char *key)
{
    return kube_text(json_object_get(metadata(item), "annotations"), key);
}

static json_t *entry_of(json_t *clouds, const char *id)
{
    json_t *entry = json_object_get(clouds, id);

    if (entry != NULL)
        return entry;
    entry = json_pack("{s:[]}", "pods");
    return json_object_set_new(clouds, id, entry) < 0 ? NULL : entry;
}

static bool named_after(const char *name, const char *id, const char *suffix)
{
    char want[KUBE_OBJECT_SIZE];

    (void)snprintf(want, sizeof(want), CLOUD_VOLUME_PREFIX "%.32s%s", id, suffix);
    return strcmp(name, want) == 0;
}

/* A Deployment is the VM's, or a request's to its node. */
static const char *part_of(const struct gather *g, const char *name, const char *id)
{
    if (strcmp(g->part, "deployment") == 0 && named_after(name, id, "-request"))
        return "request";
    return strcmp(g->part, "pods") == 0 || named_after(name, id, "") ? g->part : NULL;
}

/* "cloud-ID", and what controllers make of it: "cloud-ID-…". */
static bool id_in_name(const char *name, char ret[CLOUD_ID_LEN + 1])
{
    size_t len = strlen(CLOUD_VOLUME_PREFIX);

    if (strncmp(name, CLOUD_VOLUME_PREFIX, len) != 0 ||
        strnlen(name + len, CLOUD_ID_LEN + 1) < CLOUD_ID_LEN ||
        strchr("-", name[len + CLOUD_ID_LEN]) == NULL)
        return false;
    memcpy(ret, name + len, CLOUD_ID_LEN);
    ret[CLOUD_ID_LEN] = '\0';
    return cloud_id_valid(ret);
}

/* It may be of the cloud that it names, and of the one that its label says: neither can be told. Of
 * no others. */
static int add_stray(struct gather *g, const char *id, const char *name, struct error *err)
{
    char named[CLOUD_ID_LEN + 1];
    const char *ids[] = { id, named };

    if (!id_in_name(name, named))
        named[0] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        if (!cloud_id_valid(ids[i]))
            continue;
        json_t *problem = json_sprintf("%s '%s' has a label %s that isn't its cloud's", g->part,
                                       name, KUBE_LABEL);
        if (json_object_set_new(entry_of(g->clouds, ids[i]), "problem", problem) < 0)
            return error_memory(err);
    }
    return 0;
}

static int add_item(void *ctx, json_t *item, struct error *err)
{
    struct gather *g = ctx;
    const char *id = kube_text(json_object_get(metadata(item), "labels"), KUBE_LABEL);
    const char *name = kube_text(metadata(item), "name");
    const char *part = cloud_id_valid(id) ? part_of(g, name, id) : NULL;
    json_t *entry;

    if (part == NULL)
        return add_stray(g, id, name, err);
    entry = entry_of(g->clouds, id);
    if (entry == NULL ||
        (strcmp(part, "pods") == 0 ? json_array_append(json_object_get(entry, part), item)
                                   : json_object_set(entry, part, item)) < 0)
        return error_memory(err);
    return 0;
}

/* id NULL: all clouds'. */
static int list_part(struct driver *d, json_t *clouds, const char *part, const char *collection,
                     const char *id, uint64_t deadline, struct error *err)
{
    struct gather g = { .clouds = clouds, .part = part };
    char path[KUBE_PATH_MAX + 1];
    int n = snprintf(path, sizeof(path), "%s?labelSelector=coffer.dev%%2Fcloud%s%s", collection,
                     id == NULL ? "" : "%3D", id == NULL ? "" : id);

    if (n >= (int)sizeof(path))
        return error_set(err, ERR_INTERNAL, "a path of the API server is too long");
    return kube_list(d->api, path, PAGE, deadline, add_item, &g, err);
}

static int list_pods(struct driver *d, json_t *clouds, const char *id, uint64_t deadline,
                     struct error *err)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "/api/v1/namespaces/%s/pods", d->o.name_space);
    return list_part(d, clouds, "pods", path, id, deadline, err);
}

/* Pods first: what is read later is newer, so a cloud never looks closed while its Deployment was
 * already asked for a pod. */
static int gather(struct driver *d, const char *id, uint64_t deadline, json_t **ret,
                  struct error *err)
{
    AUTO_JSON json_t *clouds = json_object();
    char claims[KUBE_PATH_MAX + 1], deployments[KUBE_PATH_MAX + 1];

    if (clouds == NULL)
        return error_memory(err);
    if (kube_path(d, KUBE_CLAIM, NULL, claims, err) < 0 ||
        kube_path(d, KUBE_DEPLOYMENT, NULL, deployments, err) < 0 ||
        list_pods(d, clouds, id, deadline, err) < 0 ||
        list_part(d, clouds, "deployment", deployments, id, deadline, err) < 0 ||
        list_part(d, clouds, "claim", claims, id, deadline, err) < 0)
        return -1;
    *ret = TAKE_PTR(clouds);
    return 0;
}

static int add_pod(void *ctx, json_t *item, struct error *err)
{
    return json_array_append(ctx, item) < 0 ? error_memory(err) : 0;
}

int kube_pods(struct driver *d, const char *label, const char *id, uint64_t deadline, json_t **ret,
              struct error *err)
{
    int slash = (int)strcspn(label, "/"); /* a query has "%2F" for it */
    AUTO_JSON json_t *pods = json_array();
    char path[KUBE_PATH_MAX + 1];

    if (pods == NULL)
        return error_memory(err);
    (void)snprintf(path, sizeof(path),
                   "/api/v1/namespaces/%s/pods?labelSelector=%.*s%%2F%s%%3D%.32s", d->o.name_space,
                   slash, label, label + slash + 1, id);
    if (kube_list(d->api, path, PAGE, deadline, add_pod, pods, err) < 0)
        return -1;
    *ret = TAKE_PTR(pods);
    return 0;
}

/* ---- pods ---- */

bool kube_pod_ended(const json_t *pod)
{
    const char *phase = kube_text(json_object_get(pod, "status"), "phase");

    return strcmp(phase, "Failed") == 0 || strcmp(phase, "Succeeded") == 0;
}

json_t *kube_pod_now(const json_t *pods)
{
    json_t *newest = NULL, *pod;
    size_t i;

    json_array_foreach (pods, i, pod) {
        if (json_object_get(metadata(pod), "deletionTimestamp") != NULL || kube_pod_ended(pod))
            continue;
        /* RFC 3339 in UTC: its order is the texts' */
        if (newest == NULL || strcmp(kube_text(metadata(pod), "creationTimestamp"),
                                     kube_text(metadata(newest), "creationTimestamp")) > 0)
            newest = pod;
    }
    return newest;
}

static bool condition_holds(const json_t *pod, const char *type)
{
    const json_t *conditions = json_object_get(json_object_get(pod, "status"), "conditions");
    const json_t *c;
    size_t i;

    json_array_foreach (conditions, i, c) {
        if (strcmp(kube_text(c, "type"), type) == 0)
            return strcmp(kube_text(c, "status"), "True") == 0;
    }
    return false;
}

static const json_t *container_of(const json_t *pod)
{
    return json_array_get(json_object_get(json_object_get(pod, "status"), "containerStatuses"), 0);
}

/* kubelet makes a pod's sandbox after its mounts, and says so since Kubernetes 1.29; a container
 * that was started, or whose image is asked for, is later still. */
bool kube_pod_mounted(const json_t *pod)
{
    const json_t *state = json_object_get(container_of(pod), "state");
    const char *waits = kube_text(json_object_get(state, "waiting"), "reason");

    if (json_object_get(state, "running") != NULL || json_object_get(state, "terminated") != NULL)
        return condition_holds(pod, "PodReadyToStartContainers") ||
               json_object_get(state, "running") != NULL;
    return condition_holds(pod, "PodReadyToStartContainers") ||
           (waits[0] != '\0' && strcmp(waits, "ContainerCreating") != 0 &&
            strcmp(waits, "PodInitializing") != 0);
}

/* Reasons that time alone doesn't take away. */
static const char *const broken_reasons[] = {
    "CrashLoopBackOff",     "ImagePullBackOff",           "InvalidImageName",  "ErrImageNeverPull",
    "CreateContainerError", "CreateContainerConfigError", "RunContainerError",
};

static void say_ended(const json_t *ended, char reason[CLOUD_REASON_MAX + 1])
{
    const char *why = kube_text(ended, "reason");
    long long code = json_integer_value(json_object_get(ended, "exitCode"));

    if (strcmp(why, "OOMKilled") == 0)
        (void)snprintf(reason, CLOUD_REASON_MAX + 1, "out of memory");
    else if (code > 128 && code < 128 + 65)
        (void)snprintf(reason, CLOUD_REASON_MAX + 1, "signal %lld", code - 128);
    else
        (void)snprintf(reason, CLOUD_REASON_MAX + 1, "exit %lld", code);
}

static bool is_broken(const char *reason)
{
    for (size_t i = 0; i < ARRAY_SIZE(broken_reasons); i++) {
        if (strcmp(broken_reasons[i], reason) == 0)
            return true;
    }
    return false;
}

enum vm_state kube_pod_state(const json_t *pod, char reason[CLOUD_REASON_MAX + 1])
{
    const json_t *c = container_of(pod), *state = json_object_get(c, "state");
    const json_t *ended = json_object_get(state, "terminated");
    const json_t *waiting = json_object_get(state, "waiting");
    const json_t *before = json_object_get(json_object_get(c, "lastState"), "terminated");

    if (condition_holds(pod, "Ready"))
        return VM_READY;
    if (ended != NULL || (waiting != NULL && before != NULL)) {
        say_ended(ended != NULL ? ended : before, reason);
        return VM_FAILED;
    }
    if (!is_broken(kube_text(waiting, "reason")))
        return VM_STARTING;
    (void)snprintf(reason, CLOUD_REASON_MAX + 1, "%s: %.200s", kube_text(waiting, "reason"),
                   kube_text(waiting, "message"));
    return VM_FAILED;
}

/* ---- one cloud ---- */

static int read_device(json_t *from, struct device *to, struct error *err)
{
    struct json_reader r = json_reader_of(from, "a device");

    json_get_string(&r, "name", to->name, sizeof(to->name));
    json_get_string(&r, "fingerprint", to->fingerprint, sizeof(to->fingerprint));
    json_get_string(&r, "algorithm", to->algorithm, sizeof(to->algorithm));
    json_get_string(&r, "label", to->label, sizeof(to->label));
    json_get_string(&r, "publicKey", to->public_key, sizeof(to->public_key));
    json_get_string(&r, "wrapped", to->wrapped, sizeof(to->wrapped));
    if (r.problem[0] == '\0' &&
        (!device_name_valid(to->name) || !device_name_valid(to->fingerprint)))
        json_problem(&r, "fields 'name' and 'fingerprint' must have 64 hex digits");
    return json_reader_done(&r, err);
}

static int read_devices(const char *text, struct cloud *c, struct error *err)
{
    AUTO_JSON json_t *list = NULL;
    json_t *item;
    size_t i;

    if (json_parse(text, strlen(text), "the list of devices", &list, err) < 0)
        return -1;
    if (json_array_size(list) == 0)
        return error_set(err, ERR_INVALID, "the list of devices is empty");
    c->devices = calloc(json_array_size(list), sizeof(*c->devices));
    if (c->devices == NULL)
        return error_memory(err);
    json_array_foreach (list, i, item) {
        if (read_device(item, &c->devices[i], err) < 0)
            return -1;
        c->n_devices++;
    }
    return 0;
}

static int ask_volume(struct driver *d, const char *name, uint64_t deadline,
                      char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    char path[KUBE_PATH_MAX + 1];
    struct kube_request r = { .method = "GET", .path = path, .deadline = deadline };
    AUTO_JSON json_t *volume = NULL;
    const char *handle;

    (void)snprintf(path, sizeof(path), "/api/v1/persistentvolumes/%.253s", name);
    if (strpbrk(name, "/?#%") != NULL || kube_call(d->api, &r, &volume, err) < 0)
        return strpbrk(name, "/?#%") == NULL
                   ? -1
                   : error_set(err, ERR_DATA_LOSS, "a claim names no PersistentVolume");
    handle = kube_text(json_object_get(json_object_get(volume, "spec"), "csi"), "volumeHandle");
    if (handle[0] == '\0' || str_copy(ret, CLOUD_HANDLE_MAX + 1, handle) < 0)
        return error_set(err, ERR_DATA_LOSS,
                         "the PersistentVolume '%.253s' has no volumeHandle of up to %d bytes",
                         name, CLOUD_HANDLE_MAX);
    return 0;
}

int kube_volume_handle(struct driver *d, const json_t *claim, uint64_t deadline,
                       char ret[CLOUD_HANDLE_MAX + 1], struct error *err)
{
    const char *noted = annotation(claim, KUBE_VOLUME);

    if (strcmp(kube_text(json_object_get(claim, "status"), "phase"), "Bound") != 0) {
        ret[0] = '\0';
        return 0;
    }
    if (noted[0] != '\0' && str_copy(ret, CLOUD_HANDLE_MAX + 1, noted) == 0)
        return 0;
    return ask_volume(d, kube_text(json_object_get(claim, "spec"), "volumeName"), deadline, ret,
                      err);
}

static int read_claim(struct driver *d, const json_t *claim, uint64_t deadline, struct cloud *c,
                      struct error *err)
{
    const char *uuid = annotation(claim, KUBE_UUID);

    if (!uuid_valid(uuid) || str_copy(c->uuid, sizeof(c->uuid), uuid) < 0)
        return error_set(err, ERR_DATA_LOSS, "its annotation %s is no uuid", KUBE_UUID);
    if (str_copy(c->commitment, sizeof(c->commitment), annotation(claim, KUBE_COMMITMENT)) < 0)
        return error_set(err, ERR_DATA_LOSS, "its annotation %s is too long", KUBE_COMMITMENT);
    if (read_devices(annotation(claim, KUBE_DEVICES), c, err) < 0)
        return error_prefix(err, "its annotation %s", KUBE_DEVICES);
    if (str_copy(c->node, sizeof(c->node), annotation(claim, KUBE_NODE)) < 0)
        return error_set(err, ERR_DATA_LOSS, "its annotation %s is too long", KUBE_NODE);
    c->ever_opened = strcmp(annotation(claim, KUBE_OPENED), "true") == 0;
    c->open = strcmp(annotation(claim, KUBE_IN_USE), "true") == 0;
    c->unsettled = annotation(claim, KUBE_CHANGE)[0] != '\0';
    return kube_volume_handle(d, claim, deadline, c->volume, err);
}

/* A pod that isn't mounted may be one that never will be: its session was refused, or is over after
 * the node was started again. */
static int read_pod(struct driver *d, const json_t *pod, uint64_t deadline, struct cloud *c,
                    struct error *err)
{
    struct kube_trouble trouble = { .code = ERR_OK };

    c->vm = kube_pod_state(pod, c->reason);
    c->open = true;
    if (c->vm != VM_STARTING || kube_pod_mounted(pod))
        return 0;
    if (kube_trouble(d, kube_text(metadata(pod), "uid"), deadline, &trouble, err) < 0)
        return -1;
    if (trouble.code == ERR_OK || trouble.code == ERR_UNAVAILABLE)
        return 0;
    c->open = false;
    c->vm = VM_FAILED;
    return str_copy(c->reason, sizeof(c->reason), trouble.text);
}

/* These speak of the API server, or of this process, and not of one cloud. */
static bool is_of_all(const struct error *err)
{
    return err->code == ERR_UNAVAILABLE || err->code == ERR_DEADLINE ||
           err->code == ERR_EXHAUSTED || err->code == ERR_UNAUTHENTICATED ||
           err->code == ERR_PERMISSION;
}

static int read_cloud(struct driver *d, const char *id, const json_t *entry, uint64_t deadline,
                      struct cloud *ret, struct error *err)
{
    AUTO_CLOUD struct cloud c = { .devices = NULL };
    const json_t *claim = json_object_get(entry, "claim");
    const json_t *spec = json_object_get(json_object_get(entry, "deployment"), "spec");
    const json_t *pods = json_object_get(entry, "pods"), *pod = kube_pod_now(pods);
    const char *problem = kube_text(entry, "problem");

    if (problem[0] != '\0')
        return error_set(err, ERR_DATA_LOSS, "%s", problem);
    if (str_copy(c.id, sizeof(c.id), id) < 0)
        return error_set(err, ERR_INTERNAL, "a cloud's id is too long");
    if (claim != NULL && read_claim(d, claim, deadline, &c, err) < 0) {
        if (!is_of_all(err))
            (void)error_recode(err, ERR_DATA_LOSS);
        return error_prefix(err, "the claim '" CLOUD_VOLUME_PREFIX "%s'", id);
    }
    if (json_array_size(pods) > 0 || json_integer_value(json_object_get(spec, "replicas")) > 0)
        c.open = true;
    if (json_object_get(entry, "request") != NULL)
        c.unsettled = true;
    if (pod != NULL && read_pod(d, pod, deadline, &c, err) < 0)
        return -1;
    *ret = c;
    c = (struct cloud){ .devices = NULL };
    return 0;
}

/* ---- the driver's calls ---- */

static void say_unread(const char *id, const struct error *why, struct cloud *ret)
{
    ret->unread = true;
    (void)!str_copy(ret->id, sizeof(ret->id), id);
    (void)snprintf(ret->reason, sizeof(ret->reason), "%.*s", CLOUD_REASON_MAX, why->msg);
}

int kube_each(struct driver *d, uint64_t deadline, cloud_cb *cb, void *ctx, struct error *err)
{
    AUTO_JSON json_t *clouds = NULL;
    const char *id;
    json_t *entry;

    if (gather(d, NULL, deadline, &clouds, err) < 0)
        return -1;
    json_object_foreach (clouds, id, entry) {
        AUTO_CLOUD struct cloud c = { .devices = NULL };
        struct error why = ERROR_INIT;

        if (read_cloud(d, id, entry, deadline, &c, &why) < 0) {
            if (why.code != ERR_DATA_LOSS)
                return error_pass(err, &why);
            say_unread(id, &why, &c);
        }
        if (!cb(ctx, &c))
            break;
    }
    return 0;
}

int kube_find(struct driver *d, const char *id, const char *node UNUSED, uint64_t deadline,
              struct cloud *ret, struct error *err)
{
    AUTO_JSON json_t *clouds = NULL;
    const json_t *entry;

    if (gather(d, id, deadline, &clouds, err) < 0)
        return -1;
    entry = json_object_get(clouds, id);
    if (entry == NULL)
        return error_set(err, ERR_NOT_FOUND, "there is no cloud '%s'", id);
    return read_cloud(d, id, entry, deadline, ret, err);
}
