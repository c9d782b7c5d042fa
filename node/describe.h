/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/describe.h: NodeAdmin's DescribeVolumes: what records say and what the kernel shows of their
 * volumes, without a lock, a key or a proof. A page at a time; volumes that come or go meanwhile
 * are in it or not.
 */
#ifndef COFFER_NODE_DESCRIBE_H
#define COFFER_NODE_DESCRIBE_H

#include "node/node.h"

/* clients_only: only of volumes whose keys users' devices made; one whose record can't be read is
 * told of, but not what it is. ERR_UNAVAILABLE: a pool isn't there; ERR_INVALID: no such pool, or a
 * malformed token. */
int describe_volumes_of(struct node *node, struct csi_call *call,
                        const struct csi_describe_request *req, bool clients_only,
                        struct csi_describe_reply *ret, struct error *err) MUST_CHECK;

#endif
