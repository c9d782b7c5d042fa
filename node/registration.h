/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registration.h: how kubelet gets to know coffer-node: pluginregistration.Registration on a socket
 * in kubelet's directory, which csi/keeper.h keeps there. kubelet asks when it finds the socket and
 * after each of its restarts, connects to the CSI socket, and tells how it went; it tries again by
 * itself while the socket stays.
 *
 * A refusal of a process that was never accepted ends it, so that the pod's restarts and its last
 * log line show it and a roll-out stops; until then kubelet sends it nothing that could be cut off.
 * A later refusal (kubelet was restarted while the API server is away) is logged: volumes are in
 * use, and kubelet repeats it. The ops are thread-safe.
 */
#ifndef COFFER_NODE_REGISTRATION_H
#define COFFER_NODE_REGISTRATION_H

#include "common/base.h"
#include "common/error.h"
#include "csi/api.h"

#include <stdatomic.h>

struct registration {
    const char *driver_name, *endpoint; /* what GetInfo says */
    void (*end)(void);                  /* ends the process in good order */
    atomic_bool registered, accepted_once, refused;
    atomic_ulong asked, accepted, refusals;
};

extern const struct csi_registration_ops registration_ops; /* ctx: a struct registration * */

/* path: where the socket will be; endpoint: the CSI socket as kubelet sees it. ERR_INVALID when
 * kubelet could not use one of them. */
int registration_check(const char *path, const char *endpoint, struct error *err) MUST_CHECK;

#endif
