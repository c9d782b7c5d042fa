/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/client_key.h"

#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"

#define UUID "123e4567-e89b-42d3-a456-426614174000"
#define HASH "0123456789abcdef0123456789abcdef"

static char rsa_wrapped[345], hpke_wrapped[109]; /* base64 of 256 and of 80 bytes */

static void fill(char *to, size_t size, const char *end)
{
    memset(to, 'A', size - 1);
    memcpy(to + size - 1 - strlen(end), end, strlen(end));
    to[size - 1] = '\0';
}

enum { ALGORITHM, COMMITMENT, LABEL, PUBLIC_KEY, UUID_AT, WRAPPED, OTHER, SECRETS };
static struct param secrets[SECRETS];

static int setup(void **state UNUSED)
{
    const struct param good[SECRETS] = {
        [ALGORITHM] = { "algorithm", "RSA-OAEP-256" },
        [COMMITMENT] = { "commitment", HASH HASH },
        [LABEL] = { "label", "Anna's phone" },
        [PUBLIC_KEY] = { "publicKey", "MAIBAA==" },
        [UUID_AT] = { "uuid", UUID },
        [WRAPPED] = { "wrapped", rsa_wrapped },
        [OTHER] = { "session", "of another call" },
    };

    fill(rsa_wrapped, sizeof(rsa_wrapped), "==");
    fill(hpke_wrapped, sizeof(hpke_wrapped), "=");
    memcpy(secrets, good, sizeof(secrets));
    return 0;
}

static struct client_key decoded(void)
{
    struct client_key key;

    assert_works(client_key_decode(secrets, SECRETS, &key, &err));
    return key;
}

static void test_good(void **state UNUSED)
{
    struct recipient_list list;
    const struct client_key key = decoded();

    assert_string_equal(key.uuid, UUID);
    assert_string_equal(key.commitment, HASH HASH);
    assert_works(recipients_decode(key.device, &list, &err));
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].fingerprint, key.fingerprint);
    assert_string_equal(list.items[0].label, "Anna's phone");
    assert_int_equal(list.items[0].wrapped_len, 256);
    secrets[LABEL].key = "not a label";
    assert_non_null(strstr(decoded().device, "\"label\":\"\""));
    secrets[ALGORITHM].value = "HPKE-Base-X25519-SHA256-A256GCM";
    secrets[WRAPPED].value = hpke_wrapped;
    (void)decoded();
}

static const struct {
    unsigned at;
    const char *value;
    const char *sentence;
} refusals[] = {
    { UUID_AT, "", "secret 'uuid' must be a random uuid (version 4) in lower case" },
    { UUID_AT, "123E4567-E89B-42D3-A456-426614174000",
      "secret 'uuid' must be a random uuid (version 4) in lower case" },
    { UUID_AT, "123e4567-e89b-12d3-a456-426614174000",
      "secret 'uuid' must be a random uuid (version 4) in lower case" },
    { UUID_AT, "123e4567-e89b-42d3-c456-426614174000",
      "secret 'uuid' must be a random uuid (version 4) in lower case" },
    { COMMITMENT, HASH, "secret 'commitment' must be 64 lower-case hex digits" },
    { ALGORITHM, "RSA1_5",
      "secret 'algorithm' must be RSA-OAEP-256, RSA-OAEP-512 or HPKE-Base-X25519-SHA256-A256GCM" },
    { LABEL, "two\nlines",
      "secret 'label' must be UTF-8 of at most 63 bytes, without control characters" },
    { PUBLIC_KEY, "", "secret 'publicKey' must be base64 of 1 to 640 bytes, without line ends" },
    { PUBLIC_KEY, "MAIBAA==\n",
      "secret 'publicKey' must be base64 of 1 to 640 bytes, without line ends" },
    { PUBLIC_KEY, "MA==", "secret 'publicKey' must be a SubjectPublicKeyInfo in DER, as base64" },
    { PUBLIC_KEY,
      "MAMBAA==", "secret 'publicKey' must be a SubjectPublicKeyInfo in DER, as base64" },
    { PUBLIC_KEY,
      "MQIBAA==", "secret 'publicKey' must be a SubjectPublicKeyInfo in DER, as base64" },
    { PUBLIC_KEY,
      "MIACAQA=", "secret 'publicKey' must be a SubjectPublicKeyInfo in DER, as base64" },
    { PUBLIC_KEY, "MIM=", "secret 'publicKey' must be a SubjectPublicKeyInfo in DER, as base64" },
    { WRAPPED, "AAAA", "secret 'wrapped' has 3 bytes, which no key wrapped by RSA-OAEP-256 has" },
    { WRAPPED, "-", "secret 'wrapped' must be base64 of 1 to 512 bytes, without line ends" },
};

static void test_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct client_key key = { .uuid = "before" };

        (void)setup(state);
        secrets[refusals[i].at].value = refusals[i].value;
        assert_fails(client_key_decode(secrets, SECRETS, &key, &err), ERR_INVALID,
                     refusals[i].sentence);
        assert_string_equal(key.uuid, "before");
    }
    (void)setup(state);
    secrets[ALGORITHM].value = "HPKE-Base-X25519-SHA256-A256GCM";
    struct client_key key;
    assert_fails(client_key_decode(secrets, SECRETS, &key, &err), ERR_INVALID,
                 "secret 'wrapped' has 256 bytes, which no key wrapped by "
                 "HPKE-Base-X25519-SHA256-A256GCM has");
}

static void test_missing(void **state)
{
    static const unsigned needed[] = { ALGORITHM, COMMITMENT, PUBLIC_KEY, UUID_AT, WRAPPED };
    struct client_key key;

    for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
        char sentence[200];

        (void)setup(state);
        (void)snprintf(sentence, sizeof(sentence),
                       "secret '%s' is missing: with keySource client the user's device makes the "
                       "key, and says so in CreateVolume's secrets",
                       secrets[needed[i]].key);
        secrets[needed[i]].key = "x";
        assert_fails(client_key_decode(secrets, SECRETS, &key, &err), ERR_INVALID, sentence);
    }
}

/* The lengths that DER can say. */
static void test_long_keys(void **state UNUSED)
{
    static char text[((3 + 200 + 2) / 3) * 4 + 1];

    fill(text, sizeof(text), "="); /* 0x30 0x81 200, and 200 zeros: 203 bytes */
    memcpy(text, "MIHI", 4);
    memcpy(text + sizeof(text) - 5, "AAA=", 4);
    secrets[PUBLIC_KEY].value = text;
    (void)decoded();
    memcpy(text, "MIHJ", 4);
    struct client_key key;
    assert_int_equal(client_key_decode(secrets, SECRETS, &key, NULL), -1);
}

static const char *differs(const struct client_key *key, const struct record *r)
{
    const char *what = "";

    assert_works(client_key_differs(key, r, &what, &err));
    return what;
}

static void test_differs(void **state UNUSED)
{
    const struct client_key key = decoded();
    struct record r = { .uuid = UUID, .key_source = "client" };

    (void)snprintf(r.recipients, sizeof(r.recipients), "%s", key.device);
    assert_null(differs(&key, &r)); /* minting: no commitment yet */
    assert_works(record_commit(&r, HASH HASH, &err));
    assert_null(differs(&key, &r));
    assert_works(record_commit(&r, HASH "00000000000000000000000000000000", &err));
    assert_string_equal(differs(&key, &r), "commitment");
    r.uuid[0] = '2';
    assert_string_equal(differs(&key, &r), "uuid");
    memcpy(r.uuid, UUID, sizeof(UUID));
    assert_works(record_commit(&r, HASH HASH, &err));
    r.recipients[0] = '\0';
    assert_string_equal(differs(&key, &r), "device key or wrapped key");
}

/* A list that couldn't be read isn't one without the device. */
static void test_no_memory(void **state UNUSED)
{
    const struct client_key key = decoded();
    struct record r = { .uuid = UUID, .key_source = "client" };
    unsigned int n = 1;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    (void)snprintf(r.recipients, sizeof(r.recipients), "%s", key.device);
    for (bool happened = true; happened; n++) {
        struct error err = ERROR_INIT;
        const char *what = "";

        nomem_arm(n);
        int rc = client_key_differs(&key, &r, &what, &err);
        happened = nomem_disarm();
        assert_true(rc == 0 ? what == NULL : error_is_memory(&err));
        assert_int_equal(rc, happened ? -1 : 0);
    }
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_good, setup),    cmocka_unit_test_setup(test_refused, setup),
        cmocka_unit_test_setup(test_missing, setup), cmocka_unit_test_setup(test_long_keys, setup),
        cmocka_unit_test_setup(test_differs, setup), cmocka_unit_test_setup(test_no_memory, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
