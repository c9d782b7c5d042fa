/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/keeper.h"

#include "common/log.h"

int csi_keeper_start(struct csi_keeper *k, struct error *err)
{
    k->options.publish_last = true;
    return csi_server_start(&k->options, &k->service, &k->server, err);
}

int csi_keeper_stop(struct csi_keeper *k)
{
    struct csi_server *server = k->server;
    k->server = NULL;
    return server != NULL ? csi_server_stop(server) : 0;
}

/* Each reason once, not each second. */
static void say_why_not(struct csi_keeper *k, const struct error *err)
{
    if (strcmp(k->problem.msg, err->msg) != 0)
        log_error("a socket can't be made again now", KV("socket", k->options.endpoint),
                  KV("error", err->msg));
    k->problem = *err;
}

void csi_keeper_tick(struct csi_keeper *k)
{
    struct error err = ERROR_INIT;
    if (k->server != NULL && csi_server_is_published(k->server))
        return;
    if (k->server != NULL)
        log_warn("a socket is gone: making it again", KV("socket", k->options.endpoint));
    (void)csi_keeper_stop(k);
    if (csi_keeper_start(k, &err) < 0) {
        say_why_not(k, &err);
        return;
    }
    k->problem = (struct error)ERROR_INIT;
    log_info("a socket was made again", KV("socket", k->options.endpoint));
}
