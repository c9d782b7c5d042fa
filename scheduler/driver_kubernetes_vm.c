/* SPDX-License-Identifier: Apache-2.0 */
/* A cloud's VM: a Deployment of one pod, whose mount opens the volume. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/deadline.h"
#include "common/fault.h"
#include "common/log.h"
#include "volume/inline.h"

/* What a failed attach may take to be undone, past its deadline. */
#define UNDO_MS 60000u
/* A cluster in which no node can be asked: a pod is deleted at the API server when its volumes are
 * unpublished; kubelet's next round, which comes ten times a second, then unstages them. A bound
 * that was chosen, not measured, and no proof. */
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

int kube_stop(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    if (scale(d, c->id, 0, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:scaled-down");
    return kube_wait_no_pods(d, KUBE_DEPLOYMENT, c->id, deadline, err);
}

/* ---- closed ---- */

/* The node's own word. */
static int prove_closed(struct driver *d, const struct cloud *c, uint64_t deadline,
                        struct error *err)
{
    struct error e = ERROR_INIT;
    bool refused = false;

    if (kube_ask_node(
            d, c, json_pack("{s:s, s:s}", INLINE_ACTION, INLINE_CLOSED, INLINE_VOLUME, c->volume),
            NULL, deadline, &refused, &e) == 0)
        return 0;
    if (e.code == ERR_UNIMPLEMENTED) {
        log_warn("that a volume is closed can't be asked here", KV("cloud", c->id),
                 KV("error", e.msg));
        sleep_ms(UNSTAGE_MS < deadline_left(deadline) ? UNSTAGE_MS : deadline_left(deadline));
        return 0;
    }
    if (e.code == ERR_DEADLINE) /* it is worth another try */
        (void)error_recode(&e, ERR_UNAVAILABLE);
    return error_pass(err, &e);
}

static int note(struct driver *d, const char *id, json_t *annotations, uint64_t deadline,
                struct error *err)
{
    return kube_patch(d, KUBE_CLAIM, id,
                      json_pack("{s:{s:o}}", "metadata", "annotations", annotations), deadline,
                      err);
}

/* What the claim says counts: the facts may be older than its opening. */
static int close_volume(struct driver *d, const struct cloud *c, uint64_t deadline,
                        struct error *err)
{
    AUTO_JSON json_t *claim = NULL;
    struct error e = ERROR_INIT;

    if (kube_get(d, KUBE_CLAIM, c->id, deadline, &claim, &e) < 0)
        return e.code == ERR_NOT_FOUND ? 0 : error_pass(err, &e);
    const json_t *notes = json_object_get(json_object_get(claim, "metadata"), "annotations");
    if (strcmp(kube_text(notes, KUBE_IN_USE), "true") != 0)
        return 0;
    if (prove_closed(d, c, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:closed");
    return note(d, c->id, json_pack("{s:n}", KUBE_IN_USE), deadline, err);
}

/* The session first: it opens nothing any more, whatever the node says. */
int kube_detach(struct driver *d, const struct cloud *c, uint64_t deadline, struct error *err)
{
    if (kube_stop(d, c, deadline, err) < 0 ||
        kube_delete(d, KUBE_SECRET_SESSION, c->id, deadline, err) < 0)
        return -1;
    return close_volume(d, c, deadline, err);
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

static int open_volume(struct driver *d, const struct cloud *c, const struct cloud_session *s,
                       uint64_t deadline, struct error *err)
{
    bool refused;

    if (kube_replace_secret(d, KUBE_SECRET_SESSION, c->id, kube_secret_session_new(d, c->id, s),
                            deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:session-secret");
    if (kube_apply(d, KUBE_DEPLOYMENT, c->id, kube_deployment_new(d, c->id), deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:deployment");
    return kube_wait_mounted(d, KUBE_DEPLOYMENT, c->id, "the volume isn't open yet", deadline,
                             &refused, err);
}

/* Before a session is shown to anybody: from then on it may be open, and there may be data. */
static int note_opened(struct driver *d, const struct cloud *c, uint64_t deadline,
                       struct error *err)
{
    return note(d, c->id, json_pack("{s:s, s:s}", KUBE_OPENED, "true", KUBE_IN_USE, "true"),
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

    if (kube_pods(d, KUBE_LABEL, c->id, deadline, &pods, err) < 0)
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

    if (kube_pods(d, KUBE_LABEL, c->id, deadline, &pods, err) < 0)
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
