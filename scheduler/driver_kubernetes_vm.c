/* SPDX-License-Identifier: Apache-2.0 */
/* A cloud's VM: a Deployment of one pod, whose mount opens the volume. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/deadline.h"
#include "common/fault.h"

/* What a failed attach may take to be undone, past its deadline. */
#define UNDO_MS 60000u
/* A pod is deleted at the API server when its volumes are unpublished; kubelet's next round, which
 * comes ten times a second, then unstages them: that closes the mapping. Nothing at the API server
 * says when, so this is a bound that was chosen, not measured, and no proof. */
#define UNSTAGE_MS 2000u

/* ---- no pod ---- */

static int scale(struct driver *d, const char *id, int replicas, uint64_t deadline,
                 struct error *err)
{
    struct error e = ERROR_INIT;

    if (kube_patch(d, KUBE_DEPLOYMENT, id, json_pack("{s:{s:i}}", "spec", "replicas", replicas),
                   deadline, &e) < 0 &&
        e.code != ERR_NOT_FOUND)
        return error_pass(err, &e);
    return 0;
}

static int wait_no_pods(struct driver *d, const char *id, uint64_t deadline, bool *ret_had_any,
                        struct error *err)
{
    for (unsigned n = 0;;) {
        AUTO_JSON json_t *pods = NULL;
        char what[NODE_NAME_MAX + 80];

        if (kube_pods(d, id, deadline, &pods, err) < 0)
            return -1;
        if (json_array_size(pods) == 0)
            return 0;
        *ret_had_any = true;
        (void)snprintf(what, sizeof(what), "the VM on node '%s' hasn't ended yet",
                       kube_text(json_object_get(json_array_get(pods, 0), "spec"), "nodeName"));
        if (kube_pause(&n, deadline, what, "", err) < 0)
            return -1;
    }
}

int kube_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    bool had_any = false;

    if (scale(d, c->id, 0, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:scaled-down");
    if (wait_no_pods(d, c->id, deadline, &had_any, err) < 0)
        return -1;
    if (had_any)
        sleep_ms(UNSTAGE_MS < deadline_left(deadline) ? UNSTAGE_MS : deadline_left(deadline));
    return 0;
}

int kube_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    if (kube_stop(d, c, deadline, err) < 0)
        return -1;
    return kube_delete(d, KUBE_SECRET_SESSION, c->id, deadline, err);
}

/* ---- a pod, and its mount ---- */

/* Also when the time is over: what couldn't be opened is left closed. */
static void undo_attach(struct driver *d, const struct cloud *c, uint64_t deadline,
                        struct error *err)
{
    struct error e = ERROR_INIT;
    uint64_t limit = deadline_in(UNDO_MS);

    if (kube_detach(d, c, deadline > limit ? deadline : limit, &e) == 0)
        return;
    (void)error_prefix(&e, "%s; and it can't be undone", err->msg);
    (void)error_recode(&e, ERR_ABORTED);
    (void)error_pass(err, &e);
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
static int deployment_trouble(struct driver *d, const char *id, uint64_t deadline,
                              struct kube_trouble *ret, struct error *err)
{
    AUTO_JSON json_t *deployment = NULL;
    const json_t *item;
    size_t i;

    if (kube_get(d, KUBE_DEPLOYMENT, id, deadline, &deployment, err) < 0)
        return -1;
    json_array_foreach (json_object_get(json_object_get(deployment, "status"), "conditions"), i,
                        item) {
        if (strcmp(kube_text(item, "type"), "ReplicaFailure") == 0)
            (void)snprintf(ret->text, sizeof(ret->text), "%s", kube_text(item, "message"));
    }
    return 0;
}

/* One look: *ret when it is mounted; else why not, as far as it shows. */
static int look_at_mount(struct driver *d, const char *id, uint64_t deadline, bool *ret,
                         struct kube_trouble *why, struct error *err)
{
    AUTO_JSON json_t *pods = NULL;
    const json_t *pod;

    if (kube_pods(d, id, deadline, &pods, err) < 0)
        return -1;
    pod = kube_pod_now(pods);
    if (pod == NULL)
        return deployment_trouble(d, id, deadline, why, err);
    *ret = kube_pod_mounted(pod);
    if (*ret ||
        kube_trouble(d, kube_text(json_object_get(pod, "metadata"), "uid"), deadline, why, err) < 0)
        return *ret ? 0 : -1;
    if (why->text[0] == '\0')
        (void)snprintf(why->text, sizeof(why->text), "%s", unschedulable(pod));
    return 0;
}

static int wait_mounted(struct driver *d, const char *id, uint64_t deadline, struct error *err)
{
    for (unsigned n = 0;;) {
        struct kube_trouble why = { .code = ERR_OK };
        bool mounted = false;

        if (look_at_mount(d, id, deadline, &mounted, &why, err) < 0)
            return -1;
        if (mounted)
            return 0;
        if (why.code != ERR_OK && why.code != ERR_UNAVAILABLE)
            return error_set(err, why.code, "%s", why.text);
        if (kube_pause(&n, deadline, "the volume isn't open yet", why.text, err) < 0)
            return -1;
    }
}

static int open_volume(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                       uint64_t deadline, struct error *err)
{
    if (kube_replace_secret(d, KUBE_SECRET_SESSION, c->id, kube_secret_session_new(d, c->id, s),
                            deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:session-secret");
    if (kube_apply(d, KUBE_DEPLOYMENT, c->id, kube_deployment_new(d, c->id), deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:deployment");
    return wait_mounted(d, c->id, deadline, err);
}

/* Before the first session is shown to anybody: from then on there may be data. */
static int note_opened(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err)
{
    return kube_patch(d, KUBE_CLAIM, c->id,
                      json_pack("{s:{s:{s:s}}}", "metadata", "annotations", KUBE_OPENED, "true"),
                      deadline, err);
}

static int empty_session(struct driver *d, const struct cloud *c, uint64_t deadline,
                         struct error *err)
{
    return kube_replace_secret(d, KUBE_SECRET_SESSION, c->id,
                               kube_secret_session_new(d, c->id, NULL), deadline, err);
}

/* A pod that is there without its mount is another session's: its events would be taken for this
 * one's. */
int kube_attach(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                uint64_t deadline, struct error *err)
{
    AUTO_JSON json_t *pods = NULL;
    const json_t *pod;

    if (kube_pods(d, c->id, deadline, &pods, err) < 0)
        return -1;
    pod = kube_pod_now(pods);
    if (pod != NULL && kube_pod_mounted(pod))
        return empty_session(d, c, deadline, err);
    if (kube_stop(d, c, deadline, err) < 0 || note_opened(d, c, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:opened");
    if (open_volume(d, c, s, deadline, err) < 0) {
        undo_attach(d, c, deadline, err);
        return -1;
    }
    FAULT_POINT("kubernetes:mounted");
    return empty_session(d, c, deadline, err);
}

int kube_start(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    if (kube_apply(d, KUBE_SERVICE, c->id, kube_service_new(d, c->id), deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:service");
    return kube_apply(d, KUBE_INGRESS, c->id, kube_ingress_new(d, c->id), deadline, err);
}

int kube_ready(struct driver *d, const struct cloud *c, uint64_t deadline, bool *ret,
               struct error *err)
{
    char reason[CLOUD_REASON_MAX + 1] = "";
    AUTO_JSON json_t *pods = NULL;
    enum vm_state state;
    const json_t *pod;

    if (kube_pods(d, c->id, deadline, &pods, err) < 0)
        return -1;
    pod = kube_pod_now(pods);
    if (pod == NULL) { /* kube-controller-manager makes another */
        *ret = false;
        return 0;
    }
    state = kube_pod_state(pod, reason);
    if (state == VM_FAILED)
        return error_set(err, ERR_PRECONDITION, "the VM ended: %s", reason);
    *ret = state == VM_READY;
    return 0;
}
