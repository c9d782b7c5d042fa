/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node/holders.h: who keeps a mapping open, in words for an error message: a process with an open
 * file or its working directory on it, a mount in another namespace, a device stacked on it. Needs
 * the host's pid namespace (hostPID); says so when it can't see anybody.
 */
#ifndef COFFER_NODE_HOLDERS_H
#define COFFER_NODE_HOLDERS_H

#include "common/base.h"

#include <sys/types.h>

/* Always fills ret with text such as "process 4711 (postgres) has '/x' open" or "nobody that is
 * visible from this pid namespace". */
void holders_describe(dev_t mapping, char *ret, size_t size);
/* The same from <root>/proc and <root>/sys. */
void holders_describe_below(const char *root, dev_t mapping, char *ret, size_t size);

#endif
