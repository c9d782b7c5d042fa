/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cgroup.h: <cgroup>/<id>, a VM's control group (cgroup2): its limits, who is in it, its end. It
 * stays when the VM has ended, so that what the kernel says of the end can be read, until `stop`.
 * No process of ours is ever in it but a VM's init.
 */
#ifndef COFFER_LAUNCH_CGROUP_H
#define COFFER_LAUNCH_CGROUP_H

#include "common/base.h"
#include "common/error.h"
#include "launch/config.h"

#include <sys/types.h>

/* At start: makes the directory and hands memory, pids and cpu on to what is below. `any`: a
 * missing controller is no error. */
int cgroup_prepare(const char *base, bool any, struct error *err) MUST_CHECK;
/* A VM's, with its limits; the one that is there is taken. *ret_fd is its directory. */
int cgroup_make(const char *base, const char *id, const struct launch_config *c, bool any,
                int *ret_fd, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND: there is none. */
int cgroup_open(const char *base, const char *id, int *ret_fd, struct error *err) MUST_CHECK;
/* A process is in it. */
int cgroup_populated(int fd, bool *ret, struct error *err) MUST_CHECK;
/* ERR_DEADLINE: there still is one. */
int cgroup_wait_empty(int fd, uint64_t deadline, struct error *err) MUST_CHECK;
/* Kills all of it, and waits. */
int cgroup_kill(int fd, uint64_t deadline, struct error *err) MUST_CHECK;
/* Removes an empty one; none is no error. */
int cgroup_remove(const char *base, const char *id, struct error *err) MUST_CHECK;
/* The VM's init: the process in it that is 1 in its own pid namespace. 0: none. */
int cgroup_init_pid(int fd, pid_t *ret, struct error *err) MUST_CHECK;
/* Bytes in use now; 0 where the kernel doesn't say. */
uint64_t cgroup_memory(int fd);
/* The kernel has killed for want of memory. */
bool cgroup_out_of_memory(int fd);

#endif
