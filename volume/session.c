/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/session.h"

void session_bind(const char *volume_id, const char *uuid, const char *fingerprint,
                  const unsigned char expiry[8], unsigned char ret[CONTEXT_SIZE])
{
    const struct context_element elements[] = {
        { SESSION_MAGIC, strlen(SESSION_MAGIC) },
        { volume_id, strlen(volume_id) },
        { uuid, strlen(uuid) },
        { fingerprint, strlen(fingerprint) },
        { expiry, 8 },
    };
    context_hash(elements, ARRAY_SIZE(elements), ret);
}

void session_commit_text(const char *uuid, unsigned char ret[COMMIT_TEXT_SIZE])
{
    memcpy(ret, "coffer/v1 commit", 16);
    memcpy(ret + 16, uuid, 36);
}
