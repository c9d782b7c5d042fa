/* SPDX-License-Identifier: Apache-2.0 */
/* What only the volume's node can do or tell, asked by a pod that is there for that moment. */
#include "common/base.h"
#include "scheduler/driver_kubernetes_steps.h"

#include "common/deadline.h"
#include "common/fault.h"

/* What it may take to be taken away, past the deadline. */
#define END_MS 60000u

/* The Deployment by which it is found again goes last of those that hold anything. */
int kube_ask_no_more(struct driver *d, const char *id, uint64_t deadline, struct error *err)
{
    struct error e = ERROR_INIT;

    if (kube_patch(d, KUBE_REQUEST, id, json_pack("{s:{s:i}}", "spec", "replicas", 0), deadline,
                   &e) < 0 &&
        e.code != ERR_NOT_FOUND)
        return error_pass(err, &e);
    if (kube_delete(d, KUBE_SECRET_REQUEST, id, deadline, err) < 0 ||
        kube_wait_no_pods(d, KUBE_REQUEST, id, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:request-ended");
    return kube_delete(d, KUBE_REQUEST, id, deadline, err);
}

static int begin(struct driver *d, const struct cloud *c, const json_t *attributes,
                 const json_t *secret, uint64_t deadline, struct error *err)
{
    if (secret != NULL &&
        kube_replace_secret(d, KUBE_SECRET_REQUEST, c->id,
                            kube_secret_request_new(d, c->id, secret), deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:request-secret");
    return kube_apply(d, KUBE_REQUEST, c->id,
                      kube_request_new(d, c->id, c->node, attributes, secret != NULL), deadline,
                      err);
}

static int ask(struct driver *d, const struct cloud *c, const json_t *attributes,
               const json_t *secret, uint64_t deadline, bool *ret_refused, struct error *err)
{
    char what[NODE_NAME_MAX + 80];

    (void)snprintf(what, sizeof(what), "node '%s' hasn't answered yet", c->node);
    if (begin(d, c, attributes, secret, deadline, err) < 0)
        return -1;
    FAULT_POINT("kubernetes:request");
    return kube_wait_mounted(d, KUBE_REQUEST, c->id, what, deadline, ret_refused, err);
}

int kube_ask_node(struct driver *d, const struct cloud *c, json_t *attributes, json_t *secret,
                  uint64_t deadline, bool *ret_refused, struct error *err)
{
    AUTO_JSON json_t *own = attributes, *brings = secret;
    struct error why = ERROR_INIT, e = ERROR_INIT;
    uint64_t limit = deadline_in(END_MS);

    *ret_refused = false;
    if (own == NULL)
        return error_memory(err);
    if (c->node[0] == '\0')
        return error_set(err, ERR_UNAVAILABLE, "the volume's node isn't known");
    /* an answer to another one would be taken for this one's */
    if (kube_ask_no_more(d, c->id, deadline, err) < 0)
        return -1;
    int rc = ask(d, c, own, brings, deadline, ret_refused, &why);
    FAULT_POINT("kubernetes:answered");
    if (kube_ask_no_more(d, c->id, deadline > limit ? deadline : limit, &e) < 0) {
        *ret_refused = false;
        (void)error_recode(&e, ERR_ABORTED);
        return error_pass(err, &e);
    }
    return rc < 0 ? error_pass(err, &why) : 0;
}
