/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl/host_call.h: a CSI call to a daemon of this host, as a CO makes it: repeated while the
 * answer is one that a repetition can change (ABORTED: something else holds the volume;
 * UNAVAILABLE), until the deadline. What it waits for is said once, on stderr. Also the flags and
 * the folder that the verbs of a host share.
 */
#ifndef COFFER_COFFERCTL_HOST_CALL_H
#define COFFER_COFFERCTL_HOST_CALL_H

#include "common/base.h"
#include "cofferctl/cli.h"
#include "cofferctl/host_store.h"
#include "common/flags.h"

#include <jansson.h>

struct host_options {
    const char *state_dir, *controller_socket, *node_socket;
    uint64_t timeout_s;
};
extern struct host_options host_options; /* one process runs one verb */

#define HOST_FLAG_STATE_DIR                                                                       \
    {                                                                                             \
        "state-dir", "COFFER_STATE_DIR", FLAG_STRING, &host_options.state_dir, "/var/lib/coffer", \
            "where cofferctl keeps its volumes' ids and contexts", NULL                           \
    }
#define HOST_FLAG_CONTROLLER                                                    \
    {                                                                           \
        "controller-socket", "COFFER_CONTROLLER_SOCKET", FLAG_STRING,           \
            &host_options.controller_socket, "/run/coffer/controller/csi.sock", \
            "coffer-controller's CSI socket", NULL                              \
    }
#define HOST_FLAG_NODE                                                               \
    {                                                                                \
        "node-socket", "COFFER_NODE_SOCKET", FLAG_STRING, &host_options.node_socket, \
            "/run/coffer/csi.sock", "coffer-node's CSI socket", NULL                 \
    }
#define HOST_FLAG_TIMEOUT                                           \
    {                                                               \
        "timeout", NULL, FLAG_UINT, &host_options.timeout_s, "60",  \
            "seconds to wait, also for a volume that is busy", NULL \
    }

/* One verb's run. */
struct host {
    const struct cli *cli;
    uint64_t deadline;
    struct host_store store;
};
int host_open(const struct cli *cli, struct host *ret, struct error *err) MUST_CHECK;
void host_close(struct host *h);
#define HOST_INIT                 \
    {                             \
        .store = HOST_STORE_INIT, \
    }
#define AUTO_HOST __attribute__((cleanup(host_close)))

/* A --size. */
int host_size_parse(const char *text, uint64_t *ret, struct error *err) MUST_CHECK;
/* What create and expand print: name, id and size. */
int host_show(const struct cli *cli, const struct host_volume *v, uint64_t size,
              struct error *err) MUST_CHECK;

enum host_daemon { HOST_CONTROLLER, HOST_NODE };

/* Steals `request` (NULL: out of memory, or text that isn't UTF-8). ret may be NULL. */
int host_call(const struct host *h, enum host_daemon to, const char *method, json_t *request,
              json_t **ret, struct error *err) MUST_CHECK;

#endif
