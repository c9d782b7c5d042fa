/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clone.h: the one place that makes a process without a program: clone3(2), because a VM is born in
 * new namespaces and in its control group, which posix_spawn can't do. For processes with one
 * thread, which coffer-launch's all are.
 */
#ifndef COFFER_LAUNCH_CLONE_H
#define COFFER_LAUNCH_CLONE_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

/* In the child: 0. In the parent: its pid and, close-on-exec, its pidfd. cgroup_fd -1: ours. */
int clone_process(uint64_t flags, int cgroup_fd, pid_t *ret_pid, int *ret_pidfd,
                  struct error *err) MUST_CHECK;

#endif
