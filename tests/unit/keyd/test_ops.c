/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/ops.h"

#include "common/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_allow(void **state UNUSED)
{
    bool allowed[WIRE_OP_LIMIT] = { false };
    struct error err = ERROR_INIT;
    assert_int_equal(ops_allow_parse("UNWRAP", allowed, &err), 0);
    assert_false(allowed[WIRE_MINT]);
    assert_true(allowed[WIRE_UNWRAP]);
    assert_true(allowed[WIRE_STATUS]);
    assert_int_equal(ops_allow_parse("MINT,UNWRAP,STATUS", allowed, &err), 0);
    assert_true(allowed[WIRE_MINT]);
}

static void test_allow_malformed(void **state UNUSED)
{
    static const char *const bad[] = { "",
                                       ",",
                                       "MINT,",
                                       ",MINT",
                                       "mint",
                                       "MINT UNWRAP",
                                       "REWRAP",
                                       "MINT,,UNWRAP",
                                       "MINTMINTMINTMINTMINTMINTMINTMINTMINT" };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        bool allowed[WIRE_OP_LIMIT] = { false };
        struct error err = ERROR_INIT;
        if (ops_allow_parse(bad[i], allowed, &err) == 0)
            fail_msg("'%s' was accepted", bad[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_false(allowed[WIRE_MINT]);
    }
}

/* A driver that must not be reached. */
static void unreachable_mint(void *state UNUSED, struct kms_job *job UNUSED)
{
    fail_msg("the driver was asked");
}

static void unreachable_unwrap(void *state UNUSED, struct kms_job *job UNUSED)
{
    fail_msg("the driver was asked");
}

static const struct kms_driver unreachable = {
    .prefix = "x://", .kind = "x", .mint = unreachable_mint, .unwrap = unreachable_unwrap
};

static struct wire_request good(uint16_t op)
{
    return (struct wire_request){
        .op = op,
        .deadline_ms = 1000,
        .kms = "dev",
        .tenant = "team-a",
        .volume_id = "fast.0a1b2c3d.00112233445566778899aabbccddeeff",
        .uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        .use = "stage",
        .kind = "x",
        .ciphertext = "x",
    };
}

struct refusal {
    const char *field, *value;
    const char *code;
};

static void on_done(struct keyd_request *r)
{
    *(bool *)r->ctx = true;
}

static void handle(struct keyd *k, const struct wire_request *r, struct wire_reply *ret)
{
    bool done = false;
    struct keyd_request q = {
        .keyd = k, .wire = *r, .descriptor = -1, .peer_may = true, .done = on_done, .ctx = &done
    };
    ops_start(&q);
    assert_true(done);
    *ret = q.reply;
}

static void set_field(struct wire_request *r, const char *field, const char *value)
{
    const struct {
        const char *name;
        char *to;
    } fields[] = {
        { "kms", r->kms },   { "tenant", r->tenant }, { "volume_id", r->volume_id },
        { "uuid", r->uuid }, { "use", r->use },
    };
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (strcmp(fields[i].name, field) == 0)
            memcpy(fields[i].to, value, strlen(value) + 1);
    }
}

static void test_refusals(void **state UNUSED)
{
    static const struct refusal refusals[] = {
        { "kms", "other", "FAILED_PRECONDITION" },
        { "kms", "", "FAILED_PRECONDITION" },
        { "tenant", "", "INVALID_ARGUMENT" },
        { "tenant", "Team A", "INVALID_ARGUMENT" },
        { "volume_id", "", "INVALID_ARGUMENT" },
        { "volume_id", "../../etc", "INVALID_ARGUMENT" },
        { "uuid", "", "INVALID_ARGUMENT" },
        { "uuid", "6BA7B810-9DAD-41D1-80B4-00C04FD430C8", "INVALID_ARGUMENT" },
        { "use", "", "INVALID_ARGUMENT" },
        { "use", "copy", "INVALID_ARGUMENT" },
    };
    struct kms kms = { .name = "dev", .driver = &unreachable };
    const struct kms_set set = { .items = &kms, .n = 1 };
    struct keyd k = { .kms = &set, .allowed = { [WIRE_UNWRAP] = true } };
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct wire_reply reply;
        struct wire_request r = good(WIRE_UNWRAP);
        set_field(&r, refusals[i].field, refusals[i].value);
        handle(&k, &r, &reply);
        if (strcmp(reply.code, refusals[i].code) != 0)
            fail_msg("%s '%s': %s %s", refusals[i].field, refusals[i].value, reply.code,
                     reply.message);
    }
    assert_true(k.counters.requests[WIRE_UNWRAP][ERR_PRECONDITION] == 2);
    assert_true(k.counters.requests[WIRE_UNWRAP][ERR_INVALID] == ARRAY_SIZE(refusals) - 2);
}

static void test_not_allowed_and_late(void **state UNUSED)
{
    struct kms kms = { .name = "dev", .driver = &unreachable };
    const struct kms_set set = { .items = &kms, .n = 1 };
    struct keyd k = { .kms = &set, .allowed = { [WIRE_UNWRAP] = true } };
    struct wire_reply reply;
    struct wire_request r = good(WIRE_MINT);
    handle(&k, &r, &reply);
    assert_string_equal(reply.code, "PERMISSION_DENIED");
    assert_string_equal(reply.message, "this coffer-keyd does not answer MINT");
    k.allowed[WIRE_MINT] = true;
    r.deadline_ms = 0;
    handle(&k, &r, &reply);
    assert_string_equal(reply.code, "DEADLINE_EXCEEDED");
}

/* A key service that can't have a server key says so; fields are looked at before that. */
static void test_no_server_key(void **state UNUSED)
{
    static const char digits[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct kms kms = { .name = "dev", .driver = &unreachable };
    const struct kms_set set = { .items = &kms, .n = 1 };
    struct keyd k = { .kms = &set,
                      .allowed = { [WIRE_UNWRAP_CLIENT] = true, [WIRE_SERVER_KEY] = true } };
    struct wire_reply reply;
    struct wire_request r = good(WIRE_SERVER_KEY);
    r.tenant[0] = r.volume_id[0] = r.uuid[0] = r.use[0] = '\0'; /* as they come with this op */
    handle(&k, &r, &reply);
    assert_string_equal(reply.code, "FAILED_PRECONDITION");
    assert_non_null(strstr(reply.message, "'dev' has no server key"));
    r.deadline_ms = 0;
    handle(&k, &r, &reply);
    assert_string_equal(reply.code, "DEADLINE_EXCEEDED");
    r = good(WIRE_UNWRAP_CLIENT);
    handle(&k, &r, &reply);
    assert_string_equal(reply.code, "INVALID_ARGUMENT");
    assert_non_null(strstr(reply.message, "a fingerprint must be"));
    memcpy(r.fingerprint, digits, sizeof(digits));
    handle(&k, &r, &reply);
    assert_non_null(strstr(reply.message, "a commitment must be"));
    memcpy(r.commitment, digits, sizeof(digits));
    handle(&k, &r, &reply); /* no descriptor: -1 */
    assert_string_not_equal(reply.code, "OK");
}

static void test_counters(void **state UNUSED)
{
    struct counters c = { .requests = { [WIRE_MINT] = { [ERR_OK] = 3, [ERR_ABORTED] = 1 } },
                          .broken = 2 };
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(256);
    counters_to_text(&c, &sb);
    assert_string_equal(strbuf_text(&sb), "MINT OK=3, MINT ABORTED=1");
    AUTO_JSON json_t *json = counters_to_json(&c);
    AUTO_FREE char *text = json_text(json, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(
        text, "{\"accepted\":0,\"broken\":2,\"idle_closed\":0,\"refused_peers\":0,"
              "\"requests\":{\"DESTROY\":{},"
              "\"MINT\":{\"ABORTED\":1,\"OK\":3},\"SERVER_KEY\":{},\"STATUS\":{},\"UNWRAP\":{},"
              "\"UNWRAP_CLIENT\":{},\"WRAP_FOR\":{}}}");
}

/* Two folders name the algorithms: one has no libcrypto. */
static void test_algorithms(void **state UNUSED)
{
    static const char *const names[] = { RECIPIENT_RSA, RECIPIENT_RSA_512, RECIPIENT_X25519 };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct wrap_algorithm *a = wrap_algorithm(names[i]);
        assert_non_null(a);
        assert_true(recipient_algorithm_known(a->name));
        assert_true(strlen(a->name) <= RECIPIENT_ALGORITHM_MAX);
        assert_int_equal(a->kind == PUBLIC_KEY_X25519, strcmp(names[i], RECIPIENT_X25519) == 0);
    }
    assert_null(wrap_algorithm("RSA1_5"));
    assert_false(recipient_algorithm_known("RSA1_5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allow),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_allow_malformed),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_not_allowed_and_late),
        cmocka_unit_test(test_no_server_key),
        cmocka_unit_test(test_counters),
    };
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
