/* SPDX-License-Identifier: Apache-2.0 */
/* userns.h: a user namespace with one user and one group: VM_USER, who is `uid` on this host. */
#ifndef COFFER_LAUNCH_USERNS_H
#define COFFER_LAUNCH_USERNS_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

int userns_make(uid_t uid, int *ret_fd, struct error *err) MUST_CHECK;

#endif
