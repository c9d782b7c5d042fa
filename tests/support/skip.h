/* SPDX-License-Identifier: Apache-2.0 */
/* skip.h: cmocka's skip() with the reason, which tests/run.py shows; a skip without one fails
 * there. */
#ifndef COFFER_TESTS_SUPPORT_SKIP_H
#define COFFER_TESTS_SUPPORT_SKIP_H

#include <stdio.h>

/* Ends the test (cmocka jumps out of it). */
#define skip_because(reason)                       \
    do {                                           \
        (void)printf("# skipped: %s\n", (reason)); \
        skip();                                    \
    } while (0)

#define SKIP_NO_ROOT      "it must run as root"
#define SKIP_NO_LOOPS     "there is no /dev/loop-control that may be used"
#define SKIP_NO_NAMESPACE "no mount namespace of its own can be made here (it needs root)"
#define SKIP_ALLOCATOR    "a sanitizer has its own allocator"
#define SKIP_STACK        "a sanitizer guards what is left on a stack"

#endif
