/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/unstage.h: the parts of NodeUnstage that the last NodeUnpublish of a volume that pods open
 * does as well (pod.h). None reads the disk or needs a key.
 */
#ifndef COFFER_NODE_UNSTAGE_H
#define COFFER_NODE_UNSTAGE_H

#include "node/mapper.h"
#include "node/op.h"

/* The volume's flock where there is a volume; without it when its pool is away, so that teardown
 * still works. ERR_ABORTED: somebody holds it. */
int unstage_lock(struct node_op *op, struct error *err) MUST_CHECK;
/* A busy one is ERR_ABORTED and names its holder. */
int unstage_unmount(struct node_op *op, dev_t dev, const char *staging,
                    struct error *err) MUST_CHECK;
/* live->dev 0: sysfs shows none; what is left without a table is taken away too. 0: it is gone. */
int unstage_close(struct node_op *op, const struct live_mapping *live,
                  struct error *err) MUST_CHECK;

#endif
