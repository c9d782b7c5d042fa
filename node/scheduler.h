/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/scheduler.h: what coffer-scheduler may ask of this node, on a socket of its own
 * (--scheduler-endpoint): Node, and of NodeAdmin the recipients and DescribeVolumes. It asks for
 * volumes that its users' devices made (keySource client, named "cloud-" and the cloud's id) and
 * for nothing else, and it shows each at one place: DIRECTORY/<the cloud's id>/staging and
 * .../volume, so one user's volume can't be shown to another one's VM, whatever is asked.
 *
 * The directory is root's, 0700, and so is all in it: this process makes and removes what is there,
 * and the scheduler names no other path. Immutable after it is set up; thread-safe.
 */
#ifndef COFFER_NODE_SCHEDULER_H
#define COFFER_NODE_SCHEDULER_H

#include "node/node.h"

struct scheduler_service {
    struct node *node;
    const char *directory; /* --scheduler-directory: absolute, plain (request_path) */
};

/* ERR_INVALID: the directory isn't an absolute path without "." and "..", as main checks it. */
int scheduler_directory_check(const char *directory, struct error *err) MUST_CHECK;
/* Makes it, when it is missing. ERR_PRECONDITION: others may write to it. */
int scheduler_directory_make(const char *directory, struct error *err) MUST_CHECK;

/* ctx of all: a struct scheduler_service *. What isn't in them is UNIMPLEMENTED. */
extern const struct csi_identity_ops scheduler_identity_ops;
extern const struct csi_node_ops scheduler_node_ops;
extern const struct csi_admin_ops scheduler_admin_ops;

/* The place itself, for tests: `path` is DIRECTORY/<id>/<last>, and `volume_id` is a volume of that
 * cloud. ERR_INVALID: no plain absolute path; ERR_PERMISSION: another place. */
int scheduler_place_check(const struct scheduler_service *s, const char *volume_id,
                          const char *path, const char *field, const char *last,
                          struct error *err) MUST_CHECK;

#endif
