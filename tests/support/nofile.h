/* SPDX-License-Identifier: Apache-2.0 */
/* nofile.h: a process that may open `left` more descriptors and no more, as at its limit (EMFILE).
 * One thread; the numbers above the lowest free one must be free. */
#ifndef COFFER_TESTS_SUPPORT_NOFILE_H
#define COFFER_TESTS_SUPPORT_NOFILE_H

#include "tests/support/unit.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static struct rlimit nofile_before;

static inline UNUSED void nofile_arm(unsigned int left)
{
    struct rlimit few;
    int fd = open("/", O_PATH | O_CLOEXEC);

    assert_true(fd >= 0 && getrlimit(RLIMIT_NOFILE, &nofile_before) == 0);
    (void)close(fd);
    few = nofile_before;
    few.rlim_cur = (rlim_t)fd + left;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
}

static inline UNUSED void nofile_disarm(void)
{
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &nofile_before), 0);
}

#endif
