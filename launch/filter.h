/* SPDX-License-Identifier: Apache-2.0 */
/*
 * filter.h: the system calls that no program of a VM may make, by seccomp. A list of what is
 * forbidden, not of what is allowed: the program is the user's, and Node.js and its libraries call
 * what they like. What stands here has no use without rights that a VM hasn't got, or makes the
 * part of the kernel that it can reach much larger. Other architectures' calls end the process.
 */
#ifndef COFFER_LAUNCH_FILTER_H
#define COFFER_LAUNCH_FILTER_H

#include "common/base.h"
#include "common/error.h"

/* Irrevocable, for this process and all that it starts. Sets no_new_privs. */
int filter_enter(struct error *err) MUST_CHECK;

#endif
