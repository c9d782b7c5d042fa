/* SPDX-License-Identifier: Apache-2.0 */
/*
 * birth.h: the process that becomes a VM: made in its control group and in new mount, pid, network,
 * ipc and uts namespaces, it builds its root, gives up its rights, starts the program and stays as
 * its init (ARCHITECTURE.md, docs/launch.md).
 */
#ifndef COFFER_LAUNCH_BIRTH_H
#define COFFER_LAUNCH_BIRTH_H

#include "common/base.h"
#include "common/error.h"
#include "launch/config.h"

struct birth { /* all borrowed */
    const struct launch_config *config;
    const char *id;
    const char *over; /* a directory of the host's to build the root at (root.h) */
    char **argv;      /* this process's own, which the new one forgets (init.h) */
    int cgroup_fd, volume_fd, userns_fd, socket_fd, status_fd;
};

/* 0: the program runs. On failure there is no process left that wasn't told to end, but the caller
 * waits for the control group to be empty. Every descriptor that the caller holds, its lock too, is
 * held by the new process until its program runs or it has ended. */
int birth(const struct birth *b, uint64_t deadline, struct error *err) MUST_CHECK;

#endif
