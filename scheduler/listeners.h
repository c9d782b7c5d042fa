/* SPDX-License-Identifier: Apache-2.0 */
/* listeners.h: the scheduler's sockets. Descriptors are O_CLOEXEC, non-blocking, and the caller's.
 */
#ifndef COFFER_SCHEDULER_LISTENERS_H
#define COFFER_SCHEDULER_LISTENERS_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

/* ERR_INVALID: not an absolute path that fits a socket's address. flag: its name. */
int listener_path_check(const char *flag, const char *path, struct error *err) MUST_CHECK;
/* A name or a number; *ret (gid_t)-1: "" */
int listener_group(const char *name, gid_t *ret, struct error *err) MUST_CHECK;
/* With that mode and group ((gid_t)-1: the process's). An old socket of that name is replaced,
 * anything else there is an error; a socket that somebody answers on too. */
int listener_unix(const char *path, mode_t mode, gid_t group, int *ret_fd,
                  struct error *err) MUST_CHECK;

#endif
