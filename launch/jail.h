/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jail.h: the rights of a process that becomes a VM's init. jail_prepare does what still needs the
 * host's root; after jail_enter it is VM_USER of its user namespace: no capability, none to be got,
 * no new privileges, no core file, no keyring of the host's, and only the calls that filter.h
 * leaves.
 */
#ifndef COFFER_LAUNCH_JAIL_H
#define COFFER_LAUNCH_JAIL_H

#include "common/base.h"
#include "common/error.h"

/* lo is brought up, the host gets its name, cgroup namespace and keyring are its own. */
int jail_prepare(const char *id, struct error *err) MUST_CHECK;
int jail_enter(int userns_fd, struct error *err) MUST_CHECK;

#endif
