/* SPDX-License-Identifier: Apache-2.0 */
/* A storage key as a device handles it. The vectors were computed by Python's hashlib and hmac from
 * what docs/PROTOCOL-keyd.md says. */
#include "common/base.h"
#include "device/volume.h"

#include "common/parse.h"
#include "tests/unit/device/fixture.h"

#define VOLUME "fast.0a1b2c3d.00112233445566778899aabbccddeeff"
#define UUID   "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
#define EXPIRY 1893456000u

/* The server's key is the device's own here, so that the test can open what it gets. */
static struct device_lending lending_to(const struct device_key *server)
{
    return (
        struct device_lending){ .volume_id = VOLUME,
                                .uuid = UUID,
                                .server = { "coffer-s-1:3", "SHA-256", device_key_public(server) },
                                .expiry = EXPIRY };
}

static void commits(void **state UNUSED)
{
    AUTO_SECRET struct secret *key = known_key();
    char got[DEVICE_COMMITMENT_LEN + 1];

    assert_works(device_commitment(key, UUID, got, &err));
    assert_string_equal(got, "adc1bc9566ef9489521e3657871d49f8b3216977e59fd9e797066744898d508f");
    assert_fails(device_commitment(key, "no-uuid", got, &err), ERR_INVALID,
                 "'no-uuid' is not a volume's uuid");
}

static void lends_the_frame(void **state UNUSED)
{
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    AUTO_SECRET struct secret *key = known_key();
    AUTO_SECRET struct secret *frame = NULL;
    const struct device_lending to = lending_to(k);
    char session[DEVICE_WRAPPED_SIZE], hex[2 * 82 + 1];

    assert_works(device_lend(k, key, &to, session, &err));
    assert_works(device_unwrap(k, "RSA-OAEP-256", session, &frame, &err));
    assert_int_equal(secret_len(frame), 82);
    hex_encode(hex, secret_data(frame), 82);
    assert_string_equal(hex, "636f666665722f763163"
                             "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                             "82a6f70580a5d98dbe076706e37597a5244d32dfe1474118e2dab1ef317dc77c"
                             "0000000070dbd880");
}

static void lends_by_the_servers_hash(void **state UNUSED)
{
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    AUTO_SECRET struct secret *key = known_key();
    AUTO_SECRET struct secret *frame = NULL;
    AUTO_SECRET struct secret *shorter = secret_from("0123456789abcdef", 16);
    struct device_lending to = lending_to(k);
    char session[DEVICE_WRAPPED_SIZE];

    to.server.hash = "SHA-512";
    assert_works(device_lend(k, key, &to, session, &err));
    assert_works(device_unwrap(k, "RSA-OAEP-512", session, &frame, &err));
    to.server.hash = "SHA-1";
    assert_fails(device_lend(k, key, &to, session, &err), ERR_INVALID,
                 "the server's key is for an unknown hash, 'SHA-1'");
    to = lending_to(k);
    assert_fails(device_lend(k, shorter, &to, session, &err), ERR_INVALID,
                 "a storage key has 32 bytes, not 16");
    to.server.public_key = "AAAA";
    assert_int_equal(device_lend(k, key, &to, session, NULL), -1);
}

static void makes_a_volume(void **state UNUSED)
{
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    AUTO_SECRET struct secret *key = NULL;
    AUTO_SECRET struct secret *got = NULL;
    AUTO_SECRET struct secret *other = NULL;
    char commitment[DEVICE_COMMITMENT_LEN + 1];
    struct device_volume v, second;

    assert_works(device_volume_new(k, &v, &key, &err));
    assert_true(uuid_valid(v.uuid));
    assert_int_equal(v.uuid[14], '4');
    assert_works(device_unwrap(k, DEVICE_ALGORITHM, v.wrapped, &got, &err));
    assert_true(secret_equal(got, key));
    assert_works(device_commitment(got, v.uuid, commitment, &err));
    assert_string_equal(commitment, v.commitment);
    assert_works(device_volume_new(k, &second, &other, &err));
    assert_false(secret_equal(other, key));
    assert_string_not_equal(second.uuid, v.uuid);
}

static void makes_a_new_key(void **state UNUSED)
{
    AUTO_DEVICE_KEY struct device_key *k = known_device();
    AUTO_DEVICE_NEW_KEY struct device_new_key n = { .forms = NULL };
    const struct device_lending to = lending_to(k);
    const char *public = device_key_public(k);
    const struct device_stays stay[] = { { public, "RSA-OAEP-256" }, { public, "RSA-OAEP-512" } };
    char commitment[DEVICE_COMMITMENT_LEN + 1];

    assert_works(device_new_key_make(k, &to, stay, 2, &n, &err));
    assert_int_equal(n.n_forms, 2);
    for (size_t i = 0; i < 2; i++) {
        AUTO_SECRET struct secret *key = NULL;
        AUTO_SECRET struct secret *frame = NULL;

        assert_string_equal(n.forms[i].fingerprint, KNOWN_FINGERPRINT);
        assert_works(device_unwrap(k, stay[i].algorithm, n.forms[i].wrapped, &key, &err));
        assert_works(device_commitment(key, UUID, commitment, &err));
        assert_string_equal(commitment, n.commitment);
        assert_works(device_unwrap(k, "RSA-OAEP-256", n.session, &frame, &err));
        assert_memory_equal(secret_data(frame) + 10, secret_data(key), 32);
    }
    const struct device_stays bad[] = { { "AAAA", "RSA-OAEP-256" } };
    struct device_new_key untouched = { .forms = NULL };
    assert_int_equal(device_new_key_make(k, &to, bad, 1, &untouched, NULL), -1);
    assert_null(untouched.forms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commits),
        cmocka_unit_test(lends_the_frame),
        cmocka_unit_test(lends_by_the_servers_hash),
        cmocka_unit_test(makes_a_volume),
        cmocka_unit_test(makes_a_new_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
