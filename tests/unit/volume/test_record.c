/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/record.h"

#include "common/cleanup.h"
#include "tests/unit/volume/ready_record.h"
#include "tests/support/nomem.h"
#include "tests/support/unit.h"
#include "volume/commitment.h"
#include "volume/geometry.h"
#include "tests/support/skip.h"

/* What a `ready` volume's record is on disk, byte by byte: the format may not change under old
 * volumes. */
static const char ready_text[] =
    "{\"v\":1,\"gen\":3,\"id\":\"" ID "\",\"name\":\"pvc-1\",\"uuid\":\"" UUID
    "\",\"tenant\":\"team-a\","
    "\"size\":1073741824,\"state\":\"ready\",\"crypt\":{\"cipher\":\"aes-xts-plain64\",\"key_"
    "bits\":512,"
    "\"sector\":4096,\"data_offset\":4194304},\"fs\":\"ext4\",\"kms\":\"lab\",\"keySource\":"
    "\"vault\","
    "\"key\":{\"kind\":\"file\",\"ciphertext\":\"file:v1:abc\",\"key_version\":1},\"digest\":"
    "\"" HEX64 "\","
    "\"mac\":\"" HEX64 "\",\"sealed\":false,\"recipients\":[],\"source\":null,"
    "\"created\":\"2026-11-22T01:02:03Z\"}\n";

static void without_proof(struct record *r, enum record_state state)
{
    r->state = state;
    memset(r->digest, 0, sizeof(r->digest));
    memset(r->mac, 0, sizeof(r->mac));
}

/* By their fields: structs have padding. */
static void assert_same_record(const struct record *a, const struct record *b)
{
    AUTO_JSON json_t *x = record_to_json(a);
    AUTO_JSON json_t *y = record_to_json(b);

    assert_non_null(x);
    assert_true(json_equal(x, y));
}

static void test_format(void **state UNUSED)
{
    struct record r = ready_record(), back;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);

    assert_works(record_encode(&r, &sb, &err));
    assert_string_equal(strbuf_text(&sb), ready_text);
    assert_works(record_decode(ready_text, sizeof(ready_text) - 1, &back, &err));
    assert_same_record(&back, &r);
}

static void test_states(void **state UNUSED)
{
    static const char *const names[] = { "minting", "new",      "formatting", "ready",
                                         "cloning", "rekeying", "revoked",    "erased" };
    enum record_state s = RECORD_READY;

    for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
        assert_string_equal(record_state_name((enum record_state)i), names[i]);
        assert_int_equal(record_state_parse(names[i], &s), 0);
        assert_int_equal(s, i);
    }
    assert_int_equal(record_state_parse("Ready", &s), -1);
    assert_int_equal(record_state_parse("", &s), -1);
    assert_int_equal(s, RECORD_ERASED);
    assert_string_equal(record_state_name((enum record_state)99), "unknown");
}

/* Each state's record survives a round trip, with what the state allows. */
static void test_round_trip(void **state UNUSED)
{
    struct record rows[5], back;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        rows[i] = ready_record();
    without_proof(&rows[0], RECORD_MINTING);
    memset(&rows[0].key, 0, sizeof(rows[0].key));
    without_proof(&rows[1], RECORD_NEW);
    without_proof(&rows[2], RECORD_FORMATTING);
    memcpy(rows[2].name, "\xe2\x82\xac \"q\" \\ \x01", 11);
    memcpy(rows[2].fs, "none", 5);
    rows[3].state = RECORD_ERASED;
    without_proof(&rows[4], RECORD_ERASED);
    memset(&rows[4].key, 0, sizeof(rows[4].key));
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);

        assert_works(record_encode(&rows[i], &sb, &err));
        memset(&back, 0xff, sizeof(back));
        assert_works(record_decode(strbuf_text(&sb), sb.len, &back, &err));
        assert_string_equal(back.name, rows[i].name);
        assert_same_record(&back, &rows[i]);
    }
}

/* Biggest fields all at once still fit into the 8 KiB. */
static void test_biggest(void **state UNUSED)
{
    struct record r = ready_record(), back;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);

    r.gen = INT64_MAX;
    memset(r.name, 1, RECORD_NAME_MAX); /* "\u0001" each */
    memset(r.tenant, 't', 63);
    memset(r.kms, 'k', KMS_NAME_MAX);
    memset(r.key.ciphertext, '"', WRAPPED_KEY_MAX); /* "\"" each */
    r.key.version = INT64_MAX;
    r.size = GEOMETRY_SIZE_MAX;
    r.sealed = false;
    assert_works(record_encode(&r, &sb, &err));
    assert_works(record_decode(strbuf_text(&sb), sb.len, &back, &err));
    assert_same_record(&back, &r);
    r.gen = UINT64_MAX;
    assert_int_equal(record_encode(&r, &sb, NULL), -1);
}

/* ready_text with the first `from` replaced. */
static char *changed(const char *from, const char *to)
{
    const char *at = strstr(ready_text, from);
    char *text = NULL;

    assert_non_null(at);
    assert_true(
        asprintf(&text, "%.*s%s%s", (int)(at - ready_text), ready_text, to, at + strlen(from)) > 0);
    return text;
}

static const struct {
    const char *from, *to, *sentence;
} refusals[] = {
    { "\"v\":1", "\"v\":2", "its version is 2, this program knows records up to version 1" },
    { "\"v\":1", "\"v\":2,\"later\":{}",
      "its version is 2, this program knows records up to version 1" },
    { "\"v\":1", "\"v\":0", "field 'v' must be 1 or more" },
    { "\"v\":1", "\"v\":\"1\"", "field 'v' must be a number" },
    { "\"v\":1,", "", "field 'v' is missing" },
    { "\"gen\":3", "\"gen\":-3", "field 'gen' must not be negative" },
    { ID, "fast.3f0c12ab", "field 'id' must be a volume's id" },
    { "\"pvc-1\"", "\"\"", "field 'name' must not be empty" },
    { "\"pvc-1\"", "7", "field 'name' must be a text" },
    { UUID, "123E4567-e89b-42d3-a456-426614174000", "field 'uuid' must be a lower-case uuid" },
    { "team-a", "Team", "field 'tenant' must be 1 to 63 of a-z, 0-9 and '-'" },
    { "1073741824", "1073741825",
      "field 'size' must be a multiple of 1 MiB from 16 MiB to 64 TiB" },
    { "1073741824", "0", "field 'size' must be a multiple of 1 MiB from 16 MiB to 64 TiB" },
    { "1073741824", "15728640", "field 'size' must be a multiple of 1 MiB from 16 MiB to 64 TiB" },
    { "1073741824", "70368745226240",
      "field 'size' must be a multiple of 1 MiB from 16 MiB to 64 TiB" },
    { "1073741824", "1e9", "field 'size' must be a number" },
    { "\"ready\"", "\"blank\"", "field 'state' must be the name of a state" },
    { "\"ready\"", "\"rekeying\"",
      "its state is 'rekeying', which this version of Coffer can't work with" },
    { "\"ready\"", "\"cloning\"",
      "its state is 'cloning', which this version of Coffer can't work with" },
    { "\"ready\"", "\"revoked\"",
      "its state is 'revoked', which this version of Coffer can't work with" },
    { "\"ready\"", "\"new\"", "field 'digest' must not be set in state 'new'" },
    { "\"ready\"", "\"formatting\"", "field 'digest' must not be set in state 'formatting'" },
    { "\"ready\"", "\"minting\"", "field 'key' must not be set in state 'minting'" },
    { "aes-xts-plain64", "cipher_null-ecb",
      "field 'crypt': field 'cipher' must be 'aes-xts-plain64'" },
    { "\"key_bits\":512", "\"key_bits\":256", "field 'crypt': field 'key_bits' must be 512" },
    { "\"sector\":4096", "\"sector\":512", "field 'crypt': field 'sector' must be 4096" },
    { "4194304", "16777216", "field 'crypt': field 'data_offset' must be 4194304" },
    { "4194304", "4194304,\"iv\":1", "field 'crypt': unknown field 'iv'" },
    { "\"ext4\"", "\"ext3\"", "field 'fs' must be ext4, xfs, btrfs or none" },
    { "\"lab\"", "\"LAB\"", "field 'kms' must be 1 to 63 of a-z, 0-9 and '-'" },
    { "\"vault\"", "\"user\"", "field 'keySource' must be vault or client" },
    { "\"vault\"", "\"client\"",
      "field 'key': field 'kind' must be client with keySource client, and only then" },
    { "\"file\"", "\"client\"",
      "field 'key': field 'kind' must be client with keySource client, and only then" },
    { "\"vault\",\"key\":{\"kind\":\"file\"", "\"client\",\"key\":{\"kind\":\"client\"",
      "field 'key': field 'ciphertext' must be commit:v1: and 64 lower-case hex digits with "
      "key_version 1" },
    { "\"file\"", "\"none\"", "field 'key': field 'kind' must be transit, kv, file or client" },
    { "file:v1:abc", "", "field 'key': field 'ciphertext' must be printable ASCII, not empty" },
    { "file:v1:abc", "a b", "field 'key': field 'ciphertext' must be printable ASCII, not empty" },
    { ",\"key_version\":1", "", "field 'key': field 'key_version' is missing" },
    { "{\"kind\":\"file\",\"ciphertext\":\"file:v1:abc\",\"key_version\":1}", "null",
      "field 'key' must be set in state 'ready'" },
    { "\"key\":{\"kind\":\"file\",\"ciphertext\":\"file:v1:abc\",\"key_version\":1},", "",
      "field 'key' is missing" },
    { "\"digest\":\"" HEX64 "\"", "\"digest\":\"\"",
      "field 'digest' must be set in state 'ready'" },
    { "\"mac\":\"" HEX64 "\"", "\"mac\":\"\"", "field 'mac' must be set in state 'ready'" },
    { "\"mac\":\"" HEX64 "\"", "\"mac\":null", "field 'mac' must be a text" },
    { "\"digest\":\"0", "\"digest\":\"g",
      "field 'digest' must be empty or 64 lower-case hex digits" },
    { "\"digest\":\"0", "\"digest\":\"",
      "field 'digest' must be empty or 64 lower-case hex digits" },
    { "\"digest\":\"0", "\"digest\":\"00", "field 'digest' is longer than 64 bytes" },
    { "false", "true", "field 'sealed' is true, which this version of Coffer can't work with" },
    { "[]", "[{}]", "field 'recipients': recipient: field 'alg' is missing" },
    { "[]", "{}", "field 'recipients' must be an array" },
    { ":null", ":\"x\"", "field 'source' must be null in this version of Coffer" },
    { "\"source\":null,", "", "field 'source' is missing" },
    { "01:02:03Z", "01:02:03+", "field 'created' must be like 2026-11-22T01:02:03Z" },
    { "2026-11", "2026-1x", "field 'created' must be like 2026-11-22T01:02:03Z" },
    { "\"v\":1", "\"v\":1,\"extra\":1", "unknown field 'extra'" },
};

static void test_refused(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        AUTO_FREE char *text = changed(refusals[i].from, refusals[i].to);
        char sentence[300];
        struct record r = { .gen = 77 };

        (void)snprintf(sentence, sizeof(sentence), "record: %s", refusals[i].sentence);
        assert_fails(record_decode(text, strlen(text), &r, &err), ERR_DATA_LOSS, sentence);
        assert_int_equal(r.gen, 77);
    }
}

static void test_not_json(void **state UNUSED)
{
    static char big[RECORD_MAX + 2];
    struct record r;

    assert_fails(record_decode("", 0, &r, &err), ERR_DATA_LOSS,
                 "record is not valid JSON: it ends too early (line 1, column 0)");
    assert_fails(record_decode("[]", 2, &r, &err), ERR_DATA_LOSS, "record: it must be an object");
    assert_fails(record_decode(ready_text, sizeof(ready_text), &r, &err), ERR_DATA_LOSS,
                 "record is not valid JSON: text follows its end (line 2, column 1)"); /* the NUL */
    memset(big, ' ', sizeof(big));
    memcpy(big, ready_text, sizeof(ready_text) - 1);
    assert_works(record_decode(big, RECORD_MAX, &r, &err));
    assert_fails(record_decode(big, RECORD_MAX + 1, &r, &err), ERR_DATA_LOSS,
                 "record is longer than 8192 bytes");
    for (size_t len = 0; len < sizeof(ready_text) - 2; len++)
        assert_int_equal(record_decode(ready_text, len, &r, NULL), -1); /* cut anywhere */
}

/* coffer-crypt gets a record as it will be: it has no digest and mac yet, and that is no lie on a
 * disk. */
static void test_from_json_before_proof(void **state UNUSED)
{
    struct record r = ready_record(), back;

    without_proof(&r, RECORD_READY);
    AUTO_JSON json_t *obj = record_to_json(&r);

    assert_works(record_from_json(obj, &back, &err));
    assert_same_record(&back, &r);
    assert_fails(record_from_json(NULL, &back, &err), ERR_DATA_LOSS,
                 "record: it must be an object");
}

static void test_encode_refuses(void **state UNUSED)
{
    struct record r = ready_record();
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);

    r.mac[0] = '\0';
    assert_fails(
        record_encode(&r, &sb, &err), ERR_INTERNAL,
        "a record was to be written that could not be read: record: field 'mac' must be set in "
        "state 'ready'");
    r = ready_record();
    memcpy(r.name, "\xff\xfe", 3);
    assert_fails(record_encode(&r, &sb, &err), ERR_INTERNAL,
                 "a record holds text that is not UTF-8");
    r = ready_record();
    r.size += 1;
    assert_int_equal(record_encode(&r, &sb, NULL), -1);
    assert_int_equal(sb.len, 0);
}

/* Written only when true: a volume without it has the same bytes and the same MAC as ever. */
static void only_true(const char *name, bool *flag, struct record *r)
{
    static const char *const wrong[] = { "false", "null", "1", "\"true\"" };
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);
    char text[sizeof(ready_text) + 64], part[64], sentence[96];
    struct record back = { .gen = 0 };

    *flag = true;
    assert_works(record_encode(r, &sb, &err));
    (void)snprintf(part, sizeof(part), ",\"%s\":true}\n", name);
    assert_non_null(strstr(strbuf_text(&sb), ",\"created\":"));
    assert_string_equal(strstr(strbuf_text(&sb), ",\"created\":") + 33, part);
    assert_works(record_decode(strbuf_text(&sb), sb.len, &back, &err));
    assert_same_record(&back, r);
    (void)snprintf(sentence, sizeof(sentence), "record: field '%s' must be true, or not there",
                   name);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        int n = snprintf(text, sizeof(text), "%.*s,\"%s\":%s}", (int)sizeof(ready_text) - 3,
                         ready_text, name, wrong[i]);

        assert_fails(record_decode(text, (size_t)n, &back, &err), ERR_DATA_LOSS, sentence);
    }
    *flag = false;
}

static void test_only_true(void **state UNUSED)
{
    struct record r = ready_record();

    only_true("discard", &r.discard, &r);
    only_true("staleSlots", &r.stale_slots, &r);
}

/* Before `ready` there was never a second key. */
static void test_stale_slots_need_a_header(void **state UNUSED)
{
    struct record r = ready_record();
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);

    r.stale_slots = true;
    r.state = RECORD_ERASED;
    assert_works(record_encode(&r, &sb, &err));
    r.state = RECORD_NEW;
    r.digest[0] = r.mac[0] = '\0';
    assert_fails(record_encode(&r, &sb, &err), ERR_INTERNAL,
                 "a record was to be written that could not be read: record: field 'staleSlots' "
                 "must not be set in state 'new'");
}

/* The same for who opens the volume. */
static void test_identity(void **state UNUSED)
{
    struct record r = ready_record(), back = { .gen = 0 };
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);
    char text[sizeof(ready_text) + 64];
    static const char *const wrong[] = { "\"node\"", "null", "true", "\"Pod\"" };
    const struct record_claim claim = { .identity = "node" };

    r.pod = true;
    assert_works(record_encode(&r, &sb, &err));
    assert_string_equal(strstr(strbuf_text(&sb), ",\"tenantIdentity\""),
                        ",\"tenantIdentity\":\"pod\"}\n");
    assert_works(record_decode(strbuf_text(&sb), sb.len, &back, &err));
    assert_same_record(&back, &r);
    assert_true(back.pod);
    assert_fails(record_matches(&back, &claim, &err), ERR_DATA_LOSS,
                 "record: field 'tenantIdentity' is 'pod', which is not what the request says");
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        int n = snprintf(text, sizeof(text), "%.*s,\"tenantIdentity\":%s}",
                         (int)sizeof(ready_text) - 3, ready_text, wrong[i]);

        assert_fails(record_decode(text, (size_t)n, &back, &err), ERR_DATA_LOSS,
                     "record: field 'tenantIdentity' must be pod, or not there");
    }
}

#define DEVICE "[{\"alg\":\"RSA-OAEP-256\",\"key\":\"MAA=\",\"label\":\"\",\"wrapped\":\"AAAA\"}]"

/* From `minting` on it has the device that made its key. */
static void test_client(void **state UNUSED)
{
    static const enum record_state in[] = { RECORD_MINTING, RECORD_NEW, RECORD_FORMATTING,
                                            RECORD_READY };
    struct record back;

    for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
        AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);
        struct record r = ready_record();

        if (in[i] != RECORD_READY)
            without_proof(&r, in[i]);
        memset(&r.key, 0, sizeof(r.key));
        (void)snprintf(r.key_source, sizeof(r.key_source), "client");
        (void)snprintf(r.recipients, sizeof(r.recipients), "%s", DEVICE);
        assert_string_equal(record_commitment(&r), "");
        if (in[i] != RECORD_MINTING)
            assert_works(record_commit(&r, HEX64, &err));
        assert_works(record_encode(&r, &sb, &err));
        assert_works(record_decode(strbuf_text(&sb), sb.len, &back, &err));
        assert_true(record_is_client(&back));
        assert_string_equal(back.recipients, DEVICE);
        assert_string_equal(record_commitment(&back), in[i] == RECORD_MINTING ? "" : HEX64);
    }
    assert_fails(record_commit(&back, HEX64 "0", &err), ERR_INVALID,
                 "a commitment must be 64 lower-case hex digits");
    back.pod = true;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);
    assert_int_equal(record_encode(&back, &sb, NULL), -1);
    back = ready_record();
    assert_false(record_is_client(&back));
    assert_string_equal(record_commitment(&back), "");
}

static void test_now(void **state UNUSED)
{
    struct record r = ready_record();
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX);

    record_now(r.created);
    assert_int_equal(strlen(r.created), 20);
    assert_works(record_encode(&r, &sb, &err));
}

/* Out of memory anywhere: an error, nothing half done, nothing leaked (the loop ends when nothing
 * failed). */
static void test_no_memory(void **state UNUSED)
{
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    for (unsigned int n = 1;; n++) {
        struct record r = ready_record(), back = { .gen = 77 };
        AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX), mac = STRBUF_INIT(RECORD_MAX);
        int encoded, decoded, maced;

        nomem_arm(n);
        encoded = record_encode(&r, &text, NULL);
        maced = record_mac_input(&r, &mac, NULL);
        decoded = record_decode(ready_text, sizeof(ready_text) - 1, &back, NULL);
        bool happened = nomem_disarm();

        assert_int_equal(encoded + maced + decoded, happened ? -1 : 0);
        if (encoded == 0)
            assert_string_equal(strbuf_text(&text), ready_text);
        else
            assert_int_equal(text.len, 0);
        assert_int_equal(back.gen, decoded == 0 ? 3 : 77);
        if (!happened)
            break;
    }
}

#define RECIPIENT \
    "[{\"alg\":\"RSA-OAEP-256\",\"key\":\"YWJj\",\"label\":\"phone\",\"wrapped\":\"AQID\"}]"

/* Whole and in their order under the MAC: none is added, taken away or moved by who writes the
 * pool. */
static void test_recipients(void **state UNUSED)
{
    struct record r = ready_record(), back;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(RECORD_MAX), mac = STRBUF_INIT(RECORD_MAX);

    assert_int_equal(str_copy(r.recipients, sizeof(r.recipients), RECIPIENT), 0);
    assert_works(record_encode(&r, &sb, &err));
    assert_non_null(strstr(strbuf_text(&sb), "\"recipients\":" RECIPIENT));
    assert_works(record_decode(strbuf_text(&sb), sb.len, &back, &err));
    assert_same_record(&back, &r);
    assert_string_equal(back.recipients, RECIPIENT);
    assert_works(record_mac_input(&r, &mac, &err));
    assert_non_null(strstr(strbuf_text(&mac), "\"recipients\":" RECIPIENT));

    without_proof(&r, RECORD_NEW);
    strbuf_clear(&sb);
    struct error refused = ERROR_INIT;
    assert_int_equal(record_encode(&r, &sb, &refused), -1);
    assert_non_null(strstr(refused.msg, "field 'recipients' must be empty in state 'new'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_recipients),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_biggest),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_not_json),
        cmocka_unit_test(test_from_json_before_proof),
        cmocka_unit_test(test_encode_refuses),
        cmocka_unit_test(test_only_true),
        cmocka_unit_test(test_stale_slots_need_a_header),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_now),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
