/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/publish.h: NodePublish's parts: what every volume goes through, and pod.c's for a volume
 * that pods open.
 */
#ifndef COFFER_NODE_PUBLISH_H
#define COFFER_NODE_PUBLISH_H

#include "node/mapper.h"
#include "node/mounts.h"
#include "node/op.h"
#include "node/request.h"

struct publish {
    struct node_op *op;
    const struct csi_publish_request *req;
    struct usage use;
    struct live_mapping live; /* dev 0: none is open */
    struct mount_table table; /* released by node_publish_volume */
    bool read_only;
};

/* 0: the target isn't there yet. 1: there as asked. */
int publish_look_at_target(const struct publish *p, struct error *err) MUST_CHECK;
/* ERR_PRECONDITION when a volume for a single writer is published elsewhere. */
int publish_check_single(const struct publish *p, struct error *err) MUST_CHECK;
/* Makes the target and mounts there what is staged. */
int publish_bind(const struct publish *p, struct error *err) MUST_CHECK;

#endif
