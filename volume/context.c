/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/context.h"

#include <sha256.h>

static void add(SHA256_CTX *hash, const char *text)
{
    size_t len = strlen(text);
    const unsigned char prefix[4] = {
        (unsigned char)(len >> 24),
        (unsigned char)(len >> 16),
        (unsigned char)(len >> 8),
        (unsigned char)len,
    };
    SHA256_Update(hash, prefix, sizeof(prefix));
    SHA256_Update(hash, (const uint8_t *)text, len);
}

void context_compute(const char *tenant, const char *volume_id, const char *uuid,
                     unsigned char ret[CONTEXT_SIZE])
{
    SHA256_CTX hash;
    SHA256_Init(&hash);
    add(&hash, "coffer/v1");
    add(&hash, "volume");
    add(&hash, tenant);
    add(&hash, volume_id);
    add(&hash, uuid);
    SHA256_Final(ret, &hash);
}

void context_recipient(const unsigned char context[CONTEXT_SIZE],
                       unsigned char ret[CONTEXT_RECIPIENT_SIZE])
{
    static const char use[] = "coffer/v1 recipient";

    _Static_assert(sizeof(use) - 1 + CONTEXT_SIZE == CONTEXT_RECIPIENT_SIZE, "the header says so");
    memcpy(ret, use, sizeof(use) - 1);
    memcpy(ret + sizeof(use) - 1, context, CONTEXT_SIZE);
}
