/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h: what this driver and this node are called. Both daemons take the same two flags, and a
 * name that only one of them accepts would be a topology that no volume is ever on.
 */
#ifndef COFFER_VOLUME_NAMES_H
#define COFFER_VOLUME_NAMES_H

#include "common/base.h"
#include "common/error.h"

#define DRIVER_NAME_MAX  54 /* "topology.<name>" is a topology prefix: at most 63 (CSI spec) */
#define NODE_ID_MAX      63 /* it is a topology value */
#define TOPOLOGY_KEY_MAX (9 + DRIVER_NAME_MAX + 5)

/* What --node-id says; where that is "" *node_id becomes the host's name, which lives as long as
 * the process. For main, before there are threads. */
int driver_node_id(const char **node_id, struct error *err) MUST_CHECK;
/* Checks both and makes the topology key, "topology.<driver name>/node". ERR_INVALID. */
int driver_names_check(const char *driver_name, const char *node_id,
                       char ret_topology_key[TOPOLOGY_KEY_MAX + 1], struct error *err) MUST_CHECK;

#endif
