/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/session.h"

#include "common/b64.h"
#include "keyd/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* From Python: hashlib.sha256 over the tuple as in test_context.c, and
 * hmac.new(bytes(range(32)), b"coffer/v1 commit" + uuid, "sha256"). */
#define ID          "fast.0a1b2c3d.00112233445566778899aabbccddeeff"
#define UUID        "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
#define FINGERPRINT "263a4dbe41488fb87214b0032339dbb9f0c8da14c16dfcf13084bf3c2552eca5"
#define COMMITMENT  "adc1bc9566ef9489521e3657871d49f8b3216977e59fd9e797066744898d508f"
#define BINDING     "650fa60f85e81bec82dad88f2fbdb790f7c9697416ffc94472bdaac68f100660"
#define EXPIRY      1800000000u

static const struct session_claim claim = {
    .volume_id = ID, .uuid = UUID, .fingerprint = FINGERPRINT, .commitment = COMMITMENT
};
static const unsigned char expiry[8] = { 0, 0, 0, 0, 0x6b, 0x49, 0xd2, 0x00 };

/* Byte for byte what a device encrypts. */
static struct secret *frame(void)
{
    struct error err = ERROR_INIT;
    struct secret *s = secret_new(SESSION_BYTES + 1, &err);
    assert_non_null(s);
    unsigned char *p = secret_bytes(s);
    memcpy(p, "coffer/v1c", 10);
    for (unsigned i = 0; i < KEY_BYTES; i++)
        p[10 + i] = (unsigned char)i;
    assert_int_equal(hex_decode(p + 42, BINDING, 32), 0);
    memcpy(p + 74, expiry, sizeof(expiry));
    secret_set_len(s, SESSION_BYTES);
    return s;
}

static void test_vectors(void **state UNUSED)
{
    unsigned char binding[CONTEXT_SIZE], commitment[COMMITMENT_SIZE];
    char hex[65];
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *s = frame();
    session_bind(claim.volume_id, claim.uuid, claim.fingerprint, expiry, binding);
    hex_encode(hex, binding, sizeof(binding));
    assert_string_equal(hex, BINDING);
    assert_int_equal(session_commitment(secret_data(s) + 10, UUID, commitment, &err), 0);
    hex_encode(hex, commitment, sizeof(commitment));
    assert_string_equal(hex, COMMITMENT);
    assert_int_equal(session_commitment(secret_data(s) + 10, "", commitment, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void test_good(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    AUTO_SECRET struct secret *s = frame(), *key = NULL;
    assert_int_equal(session_open(s, &claim, EXPIRY - 1, &key, &err), 0);
    assert_int_equal(secret_len(key), KEY_BYTES);
    for (unsigned i = 0; i < KEY_BYTES; i++)
        assert_int_equal(secret_data(key)[i], i);
}

static void refused(const struct secret *s, const struct session_claim *c, uint64_t now,
                    enum error_code code, const char *word)
{
    struct error err = ERROR_INIT;
    struct secret *key = NULL;
    assert_int_equal(session_open(s, c, now, &key, &err), -1);
    assert_null(key);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.msg, word));
}

static void test_over(void **state UNUSED)
{
    AUTO_SECRET struct secret *s = frame();
    refused(s, &claim, EXPIRY, ERR_PRECONDITION, "is over");
    refused(s, &claim, UINT64_MAX, ERR_PRECONDITION, "is over");
}

/* Each of its bits counts, those of the expiry too: it is inside the binding. */
static void test_every_bit(void **state UNUSED)
{
    for (size_t bit = 0; bit < (size_t)8 * SESSION_BYTES; bit++) {
        AUTO_SECRET struct secret *s = frame();
        secret_bytes(s)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        refused(s, &claim, 0, ERR_INVALID, "was not made for this volume");
    }
}

static void test_lengths(void **state UNUSED)
{
    AUTO_SECRET struct secret *s = frame();
    secret_set_len(s, SESSION_BYTES - 1);
    refused(s, &claim, 0, ERR_INVALID, "was not made for this volume");
    secret_set_len(s, SESSION_BYTES + 1);
    refused(s, &claim, 0, ERR_INVALID, "was not made for this volume");
    secret_set_len(s, 0);
    refused(s, &claim, 0, ERR_INVALID, "was not made for this volume");
}

/* Right by itself, and of another volume, device or key: one sentence. A session that is foreign
 * and over isn't told that it is over. */
static void test_foreign(void **state UNUSED)
{
    struct session_claim others[] = { claim, claim, claim, claim };
    others[0].volume_id = "fast.0a1b2c3d.00112233445566778899aabbccddeef0";
    others[1].uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c9";
    others[2].fingerprint = COMMITMENT;
    others[3].commitment = FINGERPRINT;
    AUTO_SECRET struct secret *s = frame();
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        refused(s, &others[i], 0, ERR_INVALID, "was not made for this volume");
        refused(s, &others[i], UINT64_MAX, ERR_INVALID, "was not made for this volume");
    }
}

static void test_claims(void **state UNUSED)
{
    static const char *const bad[] = { "", "abc", COMMITMENT "0", "not hex" };
    AUTO_SECRET struct secret *s = frame();
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct session_claim c = claim;
        c.fingerprint = bad[i];
        refused(s, &c, 0, ERR_INVALID, "a fingerprint must be");
        c = claim;
        c.commitment = bad[i];
        refused(s, &c, 0, ERR_INVALID, "a commitment must be");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_good),
        cmocka_unit_test(test_over),    cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_lengths), cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
