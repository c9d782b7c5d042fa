/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/inline.h: a pod's inline volume, which is a request to this node (volume/inline.h): a device
 * of a user's is added to a volume's list or removed from it, or the volume is asked whether it is
 * closed. Nothing is mounted for it. Who may make a pod in a namespace may ask for that namespace's
 * volumes alone, and changes nothing without a device's session.
 */
#ifndef COFFER_NODE_INLINE_H
#define COFFER_NODE_INLINE_H

#include "node/node.h"

/* By what kubelet says of the pod. */
bool inline_is(const struct csi_publish_request *req);
/* Kubelet's own name for an inline volume, which no volume of ours can have. */
bool inline_id(const char *volume_id);

/* Goes well when what is asked for is so, and repeated calls do. ERR_PRECONDITION and ERR_INVALID:
 * it isn't, and nothing was changed; ERR_ABORTED: not yet. ERR_NOT_FOUND: the namespace has no such
 * volume here. */
int inline_publish(struct node *node, struct csi_call *call, const struct csi_publish_request *req,
                   struct error *err) MUST_CHECK;
int inline_unpublish(const struct csi_unpublish_request *req, struct error *err) MUST_CHECK;

#endif
