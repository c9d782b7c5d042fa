/* SPDX-License-Identifier: Apache-2.0 */
/* wiped_crypto.h: libcrypto with wipe.h's allocator, as http_global_init gives it one, for tests of
 * folders that may not know http. */
#ifndef COFFER_TESTS_SUPPORT_WIPED_CRYPTO_H
#define COFFER_TESTS_SUPPORT_WIPED_CRYPTO_H

#include "common/wipe.h"

#include <openssl/crypto.h>

static void *wiped_malloc(size_t n, const char *file UNUSED, int line UNUSED)
{
    return wipe_malloc(n);
}

static void *wiped_realloc(void *p, size_t n, const char *file UNUSED, int line UNUSED)
{
    return wipe_realloc(p, n);
}

static void wiped_free(void *p, const char *file UNUSED, int line UNUSED)
{
    wipe_free(p);
}

/* First of all in main; false: libcrypto was used before. */
static inline bool wiped_crypto(void)
{
    return CRYPTO_set_mem_functions(wiped_malloc, wiped_realloc, wiped_free) == 1;
}

#endif
