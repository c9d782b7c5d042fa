/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/pod.h: volumes that pods open (tenantIdentity: pod). NodeStage has no token, so it only
 * checks; the first NodePublish runs NodeStage's steps with its pod's token, the last NodeUnpublish
 * undoes them, and NodeUnstage finds nothing (or what a killed call left).
 *
 * Which mount is the staging one can't be asked of NodeUnpublish, which is told the target alone,
 * and no node database exists: the mount says it. The staging mount of such a volume has
 * no_symlinks (nosymfollow), and no target made from it has.
 */
#ifndef COFFER_NODE_POD_H
#define COFFER_NODE_POD_H

#include "node/publish.h"

/* Everything after the request was checked and the record seen. A target that is there as asked is
 * OK without a token: nothing new is shown to anybody. Otherwise the token must open the key, also
 * when the volume is open; after a failure nothing that no pod uses is left. */
int pod_publish(struct publish *p, struct error *err) MUST_CHECK;
/* After an Unpublish: closes the volume when no pod has it. Any other kind of volume: 0. */
int pod_unpublished(struct node_op *op, struct error *err) MUST_CHECK;

#endif
