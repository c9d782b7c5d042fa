/* SPDX-License-Identifier: Apache-2.0 */
/*
 * namespace.h: a mount namespace of one's own, from which no mount comes out; also in a chroot,
 * where unshare(1) can't make one. For a process with one thread.
 */
#ifndef COFFER_TESTS_SUPPORT_NAMESPACE_H
#define COFFER_TESTS_SUPPORT_NAMESPACE_H

#include "common/base.h"

/* Moves this process into a new one. -1 with errno; the process may then be in one whose mounts
 * come out: it should end. */
int namespace_enter(void) MUST_CHECK;
/* The same, with a tmpfs (`options`: "size=60m") at path, where temporary files go from now on. */
int namespace_enter_tmpfs(const char *path, const char *options) MUST_CHECK;
/* Whether a process like this one can; asked of a child, once. */
bool namespace_possible(void);

#endif
