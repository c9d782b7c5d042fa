/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/body.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/wiped_crypto.h"
#include "tests/support/unit.h"

#include <openssl/crypto.h>

/* openssl genpkey, 2048 bits: its public half and 256 bytes; a key of curve X25519. */
#define KEY                                                                                        \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7+Dm/LH2fxFaKtcSIwb2rDov5FLRHe5SxK6naW1+8xw4uihf" \
    "s5k4V9GKNCE5ArytT8PVlIKzX27LdY+tv1mLo2gDT1/HlzzYTXVC/F6lf7KDtqvWA2jT9WHHdbo02kQBxxajL8mZYhIL" \
    "LHoC3r3oWe3U26vy5eYeGfVLRUXBoOh8sifBIhimVPlsJ7CEHyttR5MQN4ku6VIt0WJje0Nk74Zd4ebHCH7rabU6R5yS" \
    "48xwesI1z0BiDugJgatS4SLHNvFmjr3RPf3BnzdcOeo+i3YvdETewGhNbOedSOBIxiC730DrKfHgoCSsFUvJ9s+eSEGr" \
    "d47Z8PwUKpC1uaRi+wIDAQAB"
#define X25519 "MCowBQYDK2VuAyEAmXUSz9VBPXdEs1Fv2CExeudn/A4nDGGWAJ4hEpFf2Cs="
#define ID     "0123456789abcdef0123456789abcdef"
#define NAME   "04fea6d57fde1f6fb896768862ac1f1d541db7942d03c07d266389ded1ff0c06"
#define PRINT  "d608c4ed2b3369f541aae4527911dc1d60c365b414d27ddfdb4b1995c093a601"
#define UUID   "92a159dd-5d04-4ef3-a448-ae0eee8c22bf"
#define HEX64  "5a2d8a11883c9841036da12c821aaa796bc25c8f2c013cd504c3f5205f0a3807"

/* base64 of 256 zero bytes, of 255, and of one more than WRAPPED_MAX */
static char wrapped[345], shorter[345], too_long[B64_LEN(WRAPPED_MAX + 1) + 1];

static int setup(void **state UNUSED)
{
    static const unsigned char zeroes[WRAPPED_MAX + 1];

    b64_encode(wrapped, zeroes, 256);
    b64_encode(shorter, zeroes, 255);
    b64_encode(too_long, zeroes, WRAPPED_MAX + 1);
    return 0;
}

/* ---- one body and one changed field ---- */

enum of { DEPLOY, MOUNT, ADD, REMOVE, CHALLENGE, EMPTY };

static json_t *good(enum of of)
{
    json_t *device = json_pack("{s:s, s:s, s:s, s:s}", "publicKey", KEY, "algorithm",
                               "RSA-OAEP-256", "wrappedKey", wrapped, "label", "phone");
    json_t *session = json_pack("{s:s, s:s}", "session", "AAAA", "serverKey", "k:1");
    json_t *ret = json_object();

    if (of == DEPLOY || of == ADD)
        (void)json_object_update(ret, device);
    if (of != CHALLENGE && of != EMPTY)
        (void)json_object_update(ret, session);
    json_decref(device);
    json_decref(session);
    json_t *more = NULL;
    if (of == DEPLOY)
        more = json_pack("{s:s, s:s, s:s, s:b}", "uuid", UUID, "commitment", HEX64, "volumeId",
                         "n1.x", "spread", 1);
    else if (of == REMOVE)
        more = json_pack("{s:s, s:s, s:s, s:s, s:[{s:s, s:s}]}", "name", NAME, "newSession", "AAAB",
                         "newServerKey", "k:2", "newCommitment", HEX64, "newRecipients",
                         "fingerprint", PRINT, "wrapped", "AAAA");
    else if (of == CHALLENGE)
        more = json_pack("{s:s, s:s}", "publicKey", KEY, "algorithm", "RSA-OAEP-512");
    (void)json_object_update(ret, more);
    json_decref(more);
    return ret;
}

/* The operation is what became of it, also when it was refused. */
static int read_text(enum of of, const char *text, size_t len, struct operation *op,
                     struct error *err)
{
    const struct body b = { .data = text, .len = len };
    char volume[CLOUD_HANDLE_MAX + 1], name[DEVICE_NAME_LEN + 1];
    struct body_challenge c = { .key = NULL };
    int r = -1;

    switch (of) {
    case DEPLOY:
        r = body_deploy(&b, op, volume, err);
        break;
    case MOUNT:
        r = body_mount(&b, op, err);
        break;
    case ADD:
        r = body_add(&b, op, err);
        break;
    case REMOVE:
        r = body_remove(&b, op, name, err);
        break;
    case CHALLENGE:
        r = body_challenge(&b, &c, err);
        break;
    case EMPTY:
        r = body_empty(&b, err);
        break;
    }
    public_key_free(c.key);
    return r;
}

static int read_obj(enum of of, const json_t *obj, struct operation *op, struct error *err)
{
    AUTO_FREE char *text = json_text(obj, 0);

    return read_text(of, text, strlen(text), op, err);
}

static struct operation *fresh(void)
{
    struct operation *op = NULL;

    assert_works(operation_new(OPERATION_CREATE, ID, &op, &err));
    return op;
}

/* ---- what is taken ---- */

static void test_deploy(void **state UNUSED)
{
    AUTO_OPERATION struct operation *op = fresh();
    AUTO_JSON json_t *obj = good(DEPLOY);
    AUTO_FREE char *text = json_text(obj, 0);
    const struct body b = { .data = text, .len = strlen(text) };
    char volume[CLOUD_HANDLE_MAX + 1];

    assert_works(body_deploy(&b, op, volume, &err));
    assert_string_equal(op->input.device.name, NAME);
    assert_string_equal(op->input.device.fingerprint, PRINT);
    assert_string_equal(op->input.device.public_key, KEY);
    assert_string_equal(op->input.device.algorithm, "RSA-OAEP-256");
    assert_string_equal(op->input.device.wrapped, wrapped);
    assert_string_equal(op->input.device.label, "phone");
    assert_string_equal(op->input.uuid, UUID);
    assert_string_equal(op->input.commitment, HEX64);
    assert_string_equal(op->input.session, "AAAA");
    assert_string_equal(op->input.server_key, "k:1");
    assert_string_equal(volume, "n1.x");
    assert_true(op->spread);
}

static void test_a_deploy_with_less(void **state UNUSED)
{
    static const char *const optional[] = { "label", "volumeId", "spread", "session", "serverKey" };
    AUTO_OPERATION struct operation *op = fresh();
    AUTO_JSON json_t *obj = good(DEPLOY);
    char volume[CLOUD_HANDLE_MAX + 1] = "x";

    for (size_t i = 0; i < ARRAY_SIZE(optional); i++)
        assert_int_equal(json_object_del(obj, optional[i]), 0);
    AUTO_FREE char *text = json_text(obj, 0);
    const struct body b = { .data = text, .len = strlen(text) };
    assert_works(body_deploy(&b, op, volume, &err));
    assert_true(volume[0] == '\0' && !op->spread && op->input.device.label[0] == '\0');
    assert_true(op->input.session == NULL && op->input.server_key == NULL);
}

static void test_the_others(void **state UNUSED)
{
    static const enum of all[] = { MOUNT, ADD, REMOVE, CHALLENGE, EMPTY };

    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(all[i]);

        assert_works(read_obj(all[i], obj, op, &err));
        if (all[i] == MOUNT || all[i] == ADD || all[i] == REMOVE)
            assert_string_equal(op->input.session, "AAAA");
        if (all[i] == ADD)
            assert_string_equal(op->input.device.name, NAME);
        if (all[i] != REMOVE)
            continue;
        assert_string_equal(op->input.new_session, "AAAB");
        assert_string_equal(op->input.new_server_key, "k:2");
        assert_string_equal(op->input.new_commitment, HEX64);
        assert_string_equal(op->input.new_recipients,
                            "[{\"fingerprint\":\"" PRINT "\",\"wrapped\":\"AAAA\"}]");
        (void)json_object_set_new(obj, "newRecipients", json_array()); /* the last one's */
        AUTO_OPERATION struct operation *last = fresh();
        assert_works(read_obj(REMOVE, obj, last, &err));
    }
}

static void test_a_challenge(void **state UNUSED)
{
    AUTO_JSON json_t *obj = good(CHALLENGE);
    AUTO_FREE char *text = json_text(obj, 0);
    const struct body b = { .data = text, .len = strlen(text) };
    struct body_challenge c = { .key = NULL };

    assert_works(body_challenge(&b, &c, &err));
    assert_string_equal(c.name, NAME);
    assert_string_equal(c.algorithm->name, "RSA-OAEP-512");
    assert_int_equal(public_key_bits(c.key), 2048);
    public_key_free(c.key);
}

/* ---- what is refused ---- */

#define R "the request: "

static void test_missing_fields(void **state UNUSED)
{
    static const struct {
        enum of of;
        const char *key, *sentence;
    } cases[] = {
        { DEPLOY, "publicKey", R "field 'publicKey' is missing" },
        { DEPLOY, "algorithm", R "field 'algorithm' is missing" },
        { DEPLOY, "wrappedKey", R "field 'wrappedKey' is missing" },
        { DEPLOY, "uuid", R "field 'uuid' is missing" },
        { DEPLOY, "commitment", R "field 'commitment' is missing" },
        { DEPLOY, "session", R "fields 'session' and 'serverKey' go together" },
        { DEPLOY, "serverKey", R "fields 'session' and 'serverKey' go together" },
        { MOUNT, "session", R "field 'session' is missing" },
        { MOUNT, "serverKey", R "fields 'session' and 'serverKey' go together" },
        { ADD, "session", R "field 'session' is missing" },
        { ADD, "publicKey", R "field 'publicKey' is missing" },
        { REMOVE, "name", R "field 'name' is missing" },
        { REMOVE, "session", R "field 'session' is missing" },
        { REMOVE, "newSession", R "field 'newSession' is missing" },
        { REMOVE, "newServerKey", R "fields 'newSession' and 'newServerKey' go together" },
        { REMOVE, "newCommitment", R "field 'newCommitment' is missing" },
        { REMOVE, "newRecipients", R "field 'newRecipients' is missing" },
        { CHALLENGE, "publicKey", R "field 'publicKey' is missing" },
        { CHALLENGE, "algorithm", R "field 'algorithm' is missing" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(cases[i].of);

        assert_int_equal(json_object_del(obj, cases[i].key), 0);
        assert_fails(read_obj(cases[i].of, obj, op, &err), ERR_INVALID, cases[i].sentence);
    }
}

static void test_wrong_texts(void **state UNUSED)
{
    static const struct {
        enum of of;
        const char *key, *value, *sentence;
    } cases[] = {
        { DEPLOY, "publicKey", "*",
          R "field 'publicKey' must be base64 of a SubjectPublicKeyInfo in DER" },
        { DEPLOY, "publicKey", "",
          R "field 'publicKey' must be base64 of a SubjectPublicKeyInfo in DER" },
        { DEPLOY, "publicKey", X25519,
          R "field 'publicKey' must be an RSA key of 2048 to 4096 bits, in DER" },
        { CHALLENGE, "publicKey", X25519,
          R "field 'publicKey' must be an RSA key of 2048 to 4096 bits, in DER" },
        { DEPLOY, "algorithm", "RSA1_5",
          R "field 'algorithm' must be RSA-OAEP-256 or RSA-OAEP-512" },
        { CHALLENGE, "algorithm", "HPKE-Base-X25519-SHA256-A256GCM",
          R "field 'algorithm' must be RSA-OAEP-256 or RSA-OAEP-512" },
        { DEPLOY, "wrappedKey", "A", R "field 'wrappedKey' must be base64 of 1 to 512 bytes" },
        { DEPLOY, "wrappedKey", shorter,
          R "field 'wrappedKey' must have the 256 bytes of the device's key" },
        { ADD, "wrappedKey", "AAAA",
          R "field 'wrappedKey' must have the 256 bytes of the device's key" },
        { DEPLOY, "uuid", "92A159DD-5D04-4EF3-A448-AE0EEE8C22BF",
          R "field 'uuid' must be a lower-case UUID" },
        { DEPLOY, "uuid", "", R "field 'uuid' must be a lower-case UUID" },
        { DEPLOY, "commitment", "ff", R "field 'commitment' must be 64 lower-case hex digits" },
        { DEPLOY, "label", "a\nb", R "field 'label' must be one line of text" },
        { DEPLOY, "label", "a\x1b[2J", R "field 'label' must be one line of text" },
        { DEPLOY, "session", "", R "field 'session' must be a text of 1 to 684 bytes" },
        { MOUNT, "session", "?", R "field 'session' must be base64 of 1 to 512 bytes" },
        { REMOVE, "name", "x", R "field 'name' must be 64 lower-case hex digits" },
        { REMOVE, "newCommitment", "F",
          R "field 'newCommitment' must be 64 lower-case hex digits" },
        { REMOVE, "newSession", "=", R "field 'newSession' must be base64 of 1 to 512 bytes" },
        { REMOVE, "newRecipients", "x", R "field 'newRecipients' must be an array" },
        { EMPTY, "more", "x", R "unknown field 'more'" },
        { DEPLOY, "more", "x", R "unknown field 'more'" },
        { MOUNT, "uuid", "x", R "unknown field 'uuid'" },
        { DEPLOY, "spread", "yes", R "field 'spread' must be true or false" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(cases[i].of);

        assert_int_equal(json_object_set_new(obj, cases[i].key, json_string(cases[i].value)), 0);
        assert_fails(read_obj(cases[i].of, obj, op, &err), ERR_INVALID, cases[i].sentence);
    }
}

static void test_what_is_no_text(void **state UNUSED)
{
    static const char *const keys[] = { "publicKey",  "algorithm", "wrappedKey", "uuid",
                                        "commitment", "label",     "volumeId" };

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(DEPLOY);
        char sentence[100];

        (void)json_object_set_new(obj, keys[i], json_integer(1));
        (void)snprintf(sentence, sizeof(sentence), R "field '%s' must be a text", keys[i]);
        assert_fails(read_obj(DEPLOY, obj, op, &err), ERR_INVALID, sentence);
    }
    AUTO_OPERATION struct operation *op = fresh();
    AUTO_JSON json_t *obj = good(MOUNT);
    (void)json_object_set_new(obj, "session", json_true());
    assert_fails(read_obj(MOUNT, obj, op, &err), ERR_INVALID,
                 R "field 'session' must be a text of 1 to 684 bytes");
}

static void test_too_long(void **state UNUSED)
{
    static const struct {
        const char *key;
        size_t len;
        const char *sentence;
    } cases[] = {
        { "label", 64, R "field 'label' is longer than 63 bytes" },
        { "volumeId", 128, R "field 'volumeId' is longer than 127 bytes" },
        { "publicKey", 861, R "field 'publicKey' is longer than 860 bytes" },
        { "session", 685, R "field 'session' must be a text of 1 to 684 bytes" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(DEPLOY);
        char value[1000];

        memset(value, 'A', sizeof(value));
        (void)json_object_set_new(obj, cases[i].key, json_stringn(value, cases[i].len));
        assert_fails(read_obj(DEPLOY, obj, op, &err), ERR_INVALID, cases[i].sentence);
    }
    AUTO_OPERATION struct operation *op = fresh();
    AUTO_JSON json_t *obj = good(DEPLOY);
    (void)json_object_set_new(obj, "wrappedKey", json_string(too_long));
    assert_fails(read_obj(DEPLOY, obj, op, &err), ERR_INVALID,
                 R "field 'wrappedKey' must be base64 of 1 to 512 bytes");
}

static void test_forms(void **state UNUSED)
{
    static const struct {
        const char *forms, *sentence;
    } cases[] = {
        { "[{}]", R "newRecipients: field 'fingerprint' is missing" },
        { "[7]", R "newRecipients: it must be an object" },
        { "[{\"fingerprint\":\"" PRINT "\"}]", R "newRecipients: field 'wrapped' is missing" },
        { "[{\"fingerprint\":\"x\",\"wrapped\":\"AAAA\"}]",
          R "newRecipients: field 'fingerprint' must be 64 lower-case hex digits" },
        { "[{\"fingerprint\":\"" PRINT "\",\"wrapped\":\"\"}]",
          R "newRecipients: field 'wrapped' must be base64 of 1 to 512 bytes" },
        { "[{\"fingerprint\":\"" PRINT "\",\"wrapped\":\"AAAA\",\"more\":1}]",
          R "newRecipients: unknown field 'more'" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(REMOVE);

        (void)json_object_set_new(obj, "newRecipients", json_own(cases[i].forms));
        assert_fails(read_obj(REMOVE, obj, op, &err), ERR_INVALID, cases[i].sentence);
    }
    AUTO_OPERATION struct operation *op = fresh();
    AUTO_JSON json_t *obj = good(REMOVE);
    json_t *list = json_object_get(obj, "newRecipients");
    while (json_array_size(list) < 65)
        (void)json_array_append(list, json_array_get(list, 0));
    assert_fails(read_obj(REMOVE, obj, op, &err), ERR_INVALID,
                 R "field 'newRecipients' must hold at most 64 devices");
}

static void test_no_json(void **state UNUSED)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "", "the request has no body" },
        { "[]", R "it must be an object" },
        { "{", "the request is not valid JSON: it ends too early (line 1, column 1)" },
    };

    for (enum of of = DEPLOY; of <= EMPTY; of++) {
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
            AUTO_OPERATION struct operation *op = fresh();

            assert_fails(read_text(of, cases[i].text, strlen(cases[i].text), op, &err), ERR_INVALID,
                         cases[i].sentence);
        }
    }
}

/* What a device sent is never in the sentence, nor a session anywhere but where it is wiped. */
static void test_nothing_is_quoted(void **state UNUSED)
{
    static const char *const keys[] = { "publicKey",  "algorithm", "wrappedKey", "uuid",
                                        "commitment", "label",     "session",    "serverKey" };

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        AUTO_OPERATION struct operation *op = fresh();
        AUTO_JSON json_t *obj = good(DEPLOY);
        struct error err = ERROR_INIT;

        (void)json_object_set_new(obj, keys[i], json_string("hush\nhush"));
        if (read_obj(DEPLOY, obj, op, &err) < 0)
            assert_null(strstr(err.msg, "hush"));
        else
            assert_string_equal(keys[i], "serverKey"); /* a name, of which Vault knows more */
    }
}

/* What there was no memory for, libcrypto's included, is nothing that the caller sent. */
static void test_no_memory(void **state UNUSED)
{
    bool happened = true;

    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    AUTO_JSON json_t *obj = good(DEPLOY);
    AUTO_FREE char *text = json_text(obj, 0);
    for (unsigned int n = 1; happened; n++) {
        AUTO_OPERATION struct operation *op = fresh();
        struct error err = ERROR_INIT;

        nomem_arm(n);
        int rc = read_text(DEPLOY, text, strlen(text), op, &err);
        happened = nomem_disarm();
        if (rc < 0 && err.code != ERR_EXHAUSTED)
            fail_msg("allocation %u: %s: %s", n, error_code_name(err.code), err.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deploy),
        cmocka_unit_test(test_a_deploy_with_less),
        cmocka_unit_test(test_the_others),
        cmocka_unit_test(test_a_challenge),
        cmocka_unit_test(test_missing_fields),
        cmocka_unit_test(test_wrong_texts),
        cmocka_unit_test(test_what_is_no_text),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_no_json),
        cmocka_unit_test(test_nothing_is_quoted),
        cmocka_unit_test(test_no_memory),
    };

    /* as http_global_init does */
    if (!wiped_crypto())
        return 1;
    return cmocka_run_group_tests(tests, setup, NULL);
}
