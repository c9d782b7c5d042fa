/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metalock.h: libcryptsetup's lock on one device's LUKS2 metadata (lib/utils_device_locking.c: a
 * flock on L_<major>:<minor> in /run/cryptsetup), held while a header is read, changed and written
 * back by us: a cryptsetup of the host that writes at the same time waits, or makes us wait.
 */
#ifndef COFFER_CRYPT_METALOCK_H
#define COFFER_CRYPT_METALOCK_H

#include "common/base.h"
#include "common/error.h"

#include <sys/types.h>

struct metalock {
    int dir_fd, fd; /* -1: not held */
    char name[32];
};
#define METALOCK_INIT           \
    {                           \
        .dir_fd = -1, .fd = -1, \
    }
void metalock_release(struct metalock *l);
#define AUTO_METALOCK __attribute__((cleanup(metalock_release)))

/* dir: METALOCK_DIR, but for tests. Held by somebody else until the deadline: ERR_ABORTED. */
#define METALOCK_DIR "/run/cryptsetup"
int metalock_take(const char *dir, dev_t dev, uint64_t deadline, struct metalock *ret,
                  struct error *err) MUST_CHECK;

#endif
