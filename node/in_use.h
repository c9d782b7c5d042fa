/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/in_use.h: the answer to a call for a volume that is in use here already. Kubelet repeats
 * NodeStage and NodePublish after its own restart; after a final error it may forget what it had,
 * and then nobody ever unmounts it or closes its mapping. So what isn't the request's own fault
 * becomes ERR_ABORTED, which it repeats.
 */
#ifndef COFFER_NODE_IN_USE_H
#define COFFER_NODE_IN_USE_H

#include "node/op.h"

/* The volume's mapping is there; with `target`, it is mounted at that path. When nobody can say, it
 * may be. */
bool in_use(const struct node_op *op, const char *target);
/* -1, always: what to return. */
int in_use_refuse(const struct node_op *op, const char *target, struct error *err);

#endif
