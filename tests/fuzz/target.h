/* SPDX-License-Identifier: Apache-2.0 */
/* target.h: what every fuzz target is to libFuzzer and to replay.c, and how it says that a promise
 * was broken. */
#ifndef COFFER_TESTS_FUZZ_TARGET_H
#define COFFER_TESTS_FUZZ_TARGET_H

#include "common/base.h"

/* Always 0: every input is worth keeping. The bytes are the caller's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline UNUSED void must(bool held)
{
    if (!held)
        abort();
}

#endif
