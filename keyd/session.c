/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/session.h"

#include "common/b64.h"
#include "common/parse.h"
#include "keyd/frame.h"
#include "recipient/libcrypto.h"
#include "volume/session.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define UUID_LEN 36u
_Static_assert(SESSION_KEY_SIZE == KEY_BYTES, "a session lends a storage key");

int session_refuse(struct error *err)
{
    return error_set(err, ERR_INVALID,
                     "the session was not made for this volume by this device, or not with the "
                     "volume's key, or it was changed");
}

int session_claim_check(const struct session_claim *claim, struct error *err)
{
    if (!hex_lower_valid(claim->fingerprint, 2 * CONTEXT_SIZE))
        return error_set(err, ERR_INVALID, "a fingerprint must be 64 lower-case hex digits");
    if (!hex_lower_valid(claim->commitment, 2 * COMMITMENT_SIZE))
        return error_set(err, ERR_INVALID, "a commitment must be 64 lower-case hex digits");
    return 0;
}

int session_commitment(const unsigned char *key, const char *uuid,
                       unsigned char ret[COMMITMENT_SIZE], struct error *err)
{
    unsigned char text[COMMIT_TEXT_SIZE];
    unsigned int len = 0;
    if (strlen(uuid) != UUID_LEN)
        return error_set(err, ERR_INVALID, "'%.64s' is not a volume's uuid", uuid);
    session_commit_text(uuid, text);
    libcrypto_watch();
    const unsigned char *mac =
        HMAC(EVP_sha256(), key, (int)KEY_BYTES, text, sizeof(text), ret, &len);
    int r = mac != NULL && len == COMMITMENT_SIZE
                ? 0
                : error_set(err, ERR_INTERNAL, "HMAC-SHA256 fails");
    return libcrypto_end(r, err);
}

/* All of it, whatever the first of them says. */
static int judge(const struct session_frame *f, const struct session_claim *claim, bool *ret,
                 struct error *err)
{
    unsigned char binding[CONTEXT_SIZE], commitment[COMMITMENT_SIZE], wanted[COMMITMENT_SIZE];
    int differs = hex_decode(wanted, claim->commitment, sizeof(wanted)) < 0;
    session_bind(claim->volume_id, claim->uuid, claim->fingerprint, f->expiry, binding);
    if (session_commitment(f->key, claim->uuid, commitment, err) < 0)
        return -1;
    differs |= CRYPTO_memcmp(f->magic, SESSION_MAGIC, sizeof(f->magic));
    differs |= CRYPTO_memcmp(f->binding, binding, sizeof(binding));
    differs |= CRYPTO_memcmp(commitment, wanted, sizeof(wanted));
    *ret = differs == 0;
    return 0;
}

static uint64_t expiry_of(const struct session_frame *f)
{
    uint64_t v = 0;
    for (size_t i = 0; i < sizeof(f->expiry); i++)
        v = v << 8 | f->expiry[i];
    return v;
}

int session_open(const struct secret *plain, const struct session_claim *claim, uint64_t now,
                 struct secret **ret, struct error *err)
{
    const struct session_frame *f = (const struct session_frame *)secret_data(plain);
    bool right = false;
    if (session_claim_check(claim, err) < 0)
        return -1;
    if (secret_len(plain) != SESSION_BYTES)
        return session_refuse(err);
    if (judge(f, claim, &right, err) < 0)
        return -1;
    if (!right)
        return session_refuse(err);
    if (expiry_of(f) <= now)
        return error_set(err, ERR_PRECONDITION,
                         "the session is over: the device must make a new one");
    AUTO_SECRET struct secret *key = secret_new(KEY_BYTES, err);
    if (key == NULL)
        return -1;
    memcpy(secret_bytes(key), f->key, KEY_BYTES);
    secret_set_len(key, KEY_BYTES);
    *ret = TAKE_PTR(key);
    return 0;
}
