/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/driver_local.h"

#include "common/deadline.h"
#include "common/log.h"
#include "csi/client.h"

/* These sentences say what the caller did, or that the volume is busy; others may name paths and
 * devices of the host. */
static bool is_for_users(enum error_code code)
{
    return code == ERR_INVALID || code == ERR_PRECONDITION || code == ERR_EXISTS ||
           code == ERR_ABORTED;
}

static int tell(const struct error *why, const char *method, struct error *err)
{
    if (is_for_users(why->code))
        return error_pass(err, why);
    if (why->code != ERR_NOT_FOUND)
        log_warn("a node's answer", KV("method", method), KV("code", error_code_name(why->code)),
                 KV("error", why->msg));
    return error_set(err, why->code, "the volume's node answers %s to %s; the log has the reason",
                     error_code_name(why->code), method);
}

/* A connection for each call: a kept one wouldn't notice for minutes that a daemon is back. */
int local_ask(const char *endpoint, const char *method, json_t *request, uint64_t deadline,
              json_t **ret, struct error *err)
{
    AUTO_JSON json_t *owned = request;
    AUTO_JSON json_t *reply = NULL;
    uint64_t left = deadline_left(deadline);

    if (owned == NULL)
        return error_memory(err);
    if (left == 0)
        return error_set(err, ERR_DEADLINE, "no time was left for %s", method);
    if (csi_client_call(endpoint, method, owned, left, &reply, err) < 0)
        return -1;
    if (ret != NULL) {
        *ret = reply;
        reply = NULL;
    }
    return 0;
}

int local_call(const char *endpoint, const char *method, json_t *request, uint64_t deadline,
               json_t **ret, struct error *err)
{
    struct error why = ERROR_INIT;

    return local_ask(endpoint, method, request, deadline, ret, &why) < 0 ? tell(&why, method, err)
                                                                         : 0;
}

int local_node_find(struct driver *d, const char *name, struct local_node **ret, struct error *err)
{
    for (size_t i = 0; i < d->n_nodes; i++) {
        if (strcmp(d->nodes[i].name, name) == 0) {
            *ret = &d->nodes[i];
            return 0;
        }
    }
    return error_set(err, ERR_NOT_FOUND, "there is no node '%.64s'", name);
}
