/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/context.h"

#include <sha256.h>

static void add(SHA256_CTX *hash, const struct context_element *e)
{
    const unsigned char prefix[4] = {
        (unsigned char)(e->len >> 24),
        (unsigned char)(e->len >> 16),
        (unsigned char)(e->len >> 8),
        (unsigned char)e->len,
    };
    SHA256_Update(hash, prefix, sizeof(prefix));
    SHA256_Update(hash, e->data, e->len);
}

void context_hash(const struct context_element *elements, size_t n, unsigned char ret[CONTEXT_SIZE])
{
    SHA256_CTX hash;
    SHA256_Init(&hash);
    for (size_t i = 0; i < n; i++)
        add(&hash, &elements[i]);
    SHA256_Final(ret, &hash);
}

void context_compute(const char *tenant, const char *volume_id, const char *uuid,
                     unsigned char ret[CONTEXT_SIZE])
{
    const char *const texts[] = { "coffer/v1", "volume", tenant, volume_id, uuid };
    struct context_element elements[ARRAY_SIZE(texts)];
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        elements[i] = (struct context_element){ texts[i], strlen(texts[i]) };
    context_hash(elements, ARRAY_SIZE(texts), ret);
}

void context_recipient(const unsigned char context[CONTEXT_SIZE],
                       unsigned char ret[CONTEXT_RECIPIENT_SIZE])
{
    static const char use[] = "coffer/v1 recipient";

    _Static_assert(sizeof(use) - 1 + CONTEXT_SIZE == CONTEXT_RECIPIENT_SIZE, "the header says so");
    memcpy(ret, use, sizeof(use) - 1);
    memcpy(ret + sizeof(use) - 1, context, CONTEXT_SIZE);
}
