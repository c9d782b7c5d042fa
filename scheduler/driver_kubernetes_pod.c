/* SPDX-License-Identifier: Apache-2.0 */
/* The one pod of a Deployment, whose mount is what is waited for. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

static const char *label_of(enum kube_kind kind)
{
    return kind == KUBE_REQUEST ? KUBE_ASKED : KUBE_LABEL;
}

static const char *unschedulable(const json_t *pod)
{
    const json_t *conditions = json_object_get(json_object_get(pod, "status"), "conditions");
    const json_t *item;
    size_t i;

    json_array_foreach (conditions, i, item) {
        if (strcmp(kube_text(item, "type"), "PodScheduled") == 0 &&
            strcmp(kube_text(item, "status"), "False") == 0)
            return kube_text(item, "message");
    }
    return "";
}

/* Why there is no pod: a quota, an admission. */
static int deployment_trouble(struct driver *d, enum kube_kind kind, const char *id,
                              uint64_t deadline, struct kube_trouble *ret, struct error *err)
{
    AUTO_JSON json_t *deployment = NULL;
    const json_t *item;
    size_t i;

    if (kube_get(d, kind, id, deadline, &deployment, err) < 0)
        return -1;
    json_array_foreach (json_object_get(json_object_get(deployment, "status"), "conditions"), i,
                        item) {
        if (strcmp(kube_text(item, "type"), "ReplicaFailure") == 0)
            (void)snprintf(ret->text, sizeof(ret->text), "%s", kube_text(item, "message"));
    }
    return 0;
}

/* One look: *ret when it is mounted; else why not, as far as it shows. */
static int look_at_mount(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline,
                         bool *ret, struct kube_trouble *why, struct error *err)
{
    AUTO_JSON json_t *pods = NULL;
    const json_t *pod;

    if (kube_pods(d, label_of(kind), id, deadline, &pods, err) < 0)
        return -1;
    pod = kube_pod_now(pods);
    if (pod == NULL)
        return deployment_trouble(d, kind, id, deadline, why, err);
    *ret = kube_pod_mounted(pod);
    if (*ret ||
        kube_trouble(d, kube_text(json_object_get(pod, "metadata"), "uid"), deadline, why, err) < 0)
        return *ret ? 0 : -1;
    if (why->text[0] == '\0')
        (void)snprintf(why->text, sizeof(why->text), "%s", unschedulable(pod));
    return 0;
}

int kube_wait_mounted(struct driver *d, enum kube_kind kind, const char *id, const char *what,
                      uint64_t deadline, bool *ret_refused, struct error *err)
{
    *ret_refused = false;
    for (unsigned n = 0;;) {
        struct kube_trouble why = { .code = ERR_OK };
        bool mounted = false;

        if (look_at_mount(d, kind, id, deadline, &mounted, &why, err) < 0)
            return -1;
        if (mounted)
            return 0;
        *ret_refused = why.code != ERR_OK && why.code != ERR_UNAVAILABLE;
        if (*ret_refused)
            return error_set(err, why.code, "%s", why.text);
        if (kube_pause(&n, deadline, what, why.text, err) < 0)
            return -1;
    }
}

/* Not one that is going already: kubelet says of each that it ended before its object goes. */
static bool any_stays(const json_t *pods)
{
    const json_t *pod;
    size_t i;

    json_array_foreach (pods, i, pod) {
        if (kube_pod_ended(pod) &&
            json_object_get(json_object_get(pod, "metadata"), "deletionTimestamp") == NULL)
            return true;
    }
    return false;
}

/* A Deployment of no pods leaves those that ended by themselves where they are; without it the
 * garbage collector takes them, and nobody needs the right to delete a pod. */
int kube_wait_no_pods(struct driver *d, enum kube_kind kind, const char *id, uint64_t deadline,
                      struct error *err)
{
    for (unsigned n = 0;;) {
        AUTO_JSON json_t *pods = NULL;
        char what[NODE_NAME_MAX + 80];

        if (kube_pods(d, label_of(kind), id, deadline, &pods, err) < 0)
            return -1;
        if (json_array_size(pods) == 0)
            return 0;
        if (any_stays(pods) && kube_delete(d, kind, id, deadline, err) < 0)
            return -1;
        (void)snprintf(what, sizeof(what), "%s on node '%s' hasn't ended yet",
                       kind == KUBE_REQUEST ? "a request" : "the VM",
                       kube_text(json_object_get(json_array_get(pods, 0), "spec"), "nodeName"));
        if (kube_pause(&n, deadline, what, "", err) < 0)
            return -1;
    }
}
