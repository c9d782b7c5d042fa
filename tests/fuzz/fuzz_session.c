/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session form, decrypted: 8 bytes of time, then what a device may have encrypted. Only one frame
 * is right for one volume, device, key and expiry, so only that one gives the key, and only in its
 * time.
 *
 * covers: keyd/session.c
 */
#include "tests/fuzz/target.h"

#include "keyd/frame.h"
#include "keyd/session.h"

#define EXPIRY 1800000000u

static const struct session_claim claim = {
    .volume_id = "fast.0a1b2c3d.00112233445566778899aabbccddeeff",
    .uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    .fingerprint = "263a4dbe41488fb87214b0032339dbb9f0c8da14c16dfcf13084bf3c2552eca5",
    .commitment = "adc1bc9566ef9489521e3657871d49f8b3216977e59fd9e797066744898d508f",
};

static uint64_t big_endian(const uint8_t *p)
{
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

static void check_key(const struct secret *key, const uint8_t *frame, size_t size, uint64_t now)
{
    must(size == SESSION_BYTES && memcmp(frame, "coffer/v1c", 10) == 0);
    must(secret_len(key) == KEY_BYTES && memcmp(secret_data(key), frame + 10, KEY_BYTES) == 0);
    for (size_t i = 0; i < KEY_BYTES; i++) /* the one that the commitment is of */
        must(secret_data(key)[i] == i);
    must(big_endian(frame + 74) == EXPIRY && now < EXPIRY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_SECRET struct secret *plain = NULL, *key = NULL;
    struct error err = ERROR_INIT;

    if (size < 8 || size > 600)
        return 0;
    plain = secret_new(600, &err);
    must(plain != NULL);
    memcpy(secret_bytes(plain), data + 8, size - 8);
    secret_set_len(plain, size - 8);
    if (session_open(plain, &claim, big_endian(data), &key, &err) == 0) {
        check_key(key, data + 8, size - 8, big_endian(data));
        return 0;
    }
    must(key == NULL && (err.code == ERR_INVALID || err.code == ERR_PRECONDITION));
    must_be_sentence(&err);
    return 0;
}
