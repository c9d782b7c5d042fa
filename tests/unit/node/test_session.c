/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/request.h"

#include "common/arena.h"
#include "tests/support/unit.h"

#define HASH "0123456789abcdef0123456789abcdef"
#define MISSING(key)                                                                            \
    "secret '" key "' is missing: the user's device lends the volume's key (keySource client) " \
    "by 'session', 'serverKey' and 'fingerprint'"

static struct csi_pair secrets[3];
static struct node_op op;

static int ask(struct arena *arena, const char *session, const char *server_key,
               const char *fingerprint, struct error *err)
{
    const struct csi_pair all[] = { { "fingerprint", fingerprint },
                                    { "serverKey", server_key },
                                    { "session", session } };
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (all[i].value != NULL)
            secrets[n++] = all[i];
    op.has_session = false;
    return request_session(&op, arena, &(struct csi_map){ .items = secrets, .n = n }, err);
}

static int setup(void **state UNUSED)
{
    memset(&op, 0, sizeof(op));
    (void)snprintf(op.record.key_source, sizeof(op.record.key_source), "client");
    (void)snprintf(op.id_text, sizeof(op.id_text), "v");
    return 0;
}

static void test_good(void **state UNUSED)
{
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));

    assert_works(ask(arena, "/wABAg==", "coffer-s-1:12", HASH HASH, &err));
    assert_true(op.has_session);
    assert_int_equal(op.session.len, 4);
    assert_memory_equal(op.session.data, "\xff\0\1\2", 4);
    assert_string_equal(op.session.server_key, "coffer-s-1:12");
    assert_string_equal(op.session.fingerprint, HASH HASH);
}

/* None is needed while the volume is open; of another volume nothing is looked at. */
static void test_none(void **state UNUSED)
{
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));

    assert_works(ask(arena, NULL, "x", "y", &err));
    assert_false(op.has_session);
    assert_fails(request_need_session(&op, &err), ERR_PRECONDITION, MISSING("session"));
    (void)snprintf(op.record.key_source, sizeof(op.record.key_source), "vault");
    assert_works(ask(arena, "not base64!", NULL, NULL, &err));
    assert_false(op.has_session);
}

static void test_malformed(void **state UNUSED)
{
    static char long_form[4 * 172 + 1];
    static const char base64[] = "secret 'session' must be base64 of 1 to 512 bytes, without line "
                                 "ends";
    static const char id[] = "secret 'serverKey' must be the id of the server's key, NAME:VERSION";
    static const char hex[] = "secret 'fingerprint' must be the 64 lower-case hex digits of the "
                              "device's key";
    static const char *const ids[] = { "", "x", ":1", "x:", "x:0", "x:-1", "x:1 " };
    static const char *const forms[] = { "", "A", "AAAA\n", "AA-_", "AAAA AAAA" };
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
        assert_fails(ask(arena, forms[i], "k:1", HASH HASH, &err), ERR_INVALID, base64);
    memset(long_form, 'A', sizeof(long_form) - 1); /* 516 bytes */
    assert_fails(ask(arena, long_form, "k:1", HASH HASH, &err), ERR_INVALID, base64);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        assert_fails(ask(arena, "AAAA", ids[i], HASH HASH, &err), ERR_INVALID, id);
    assert_fails(ask(arena, "AAAA", "k:1", HASH, &err), ERR_INVALID, hex);
    assert_fails(ask(arena, "AAAA", "k:1", NULL, &err), ERR_PRECONDITION, MISSING("fingerprint"));
    assert_fails(ask(arena, "AAAA", NULL, HASH HASH, &err), ERR_PRECONDITION, MISSING("serverKey"));
    assert_false(op.has_session);
}

/* Only by a device that the record has. */
static void test_device(void **state UNUSED)
{
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));
    struct recipient_list list = { .n = 0 };
    const struct recipient device = {
        .algorithm = "RSA-OAEP-256", .key = "der", .key_len = 3, .wrapped = "w", .wrapped_len = 1
    };

    assert_works(recipients_add(&list, &device, &err));
    assert_works(recipients_encode(&list, op.record.recipients, &err));
    assert_works(ask(arena, "AAAA", "k:1", list.items[0].fingerprint, &err));
    assert_works(request_need_session(&op, &err));
    assert_works(ask(arena, "AAAA", "k:1", HASH HASH, &err));
    assert_fails(request_need_session(&op, &err), ERR_INVALID,
                 "the session is of a device that volume 'v' doesn't have among its recipients");
    (void)snprintf(op.record.recipients, sizeof(op.record.recipients), "broken");
    assert_int_equal(request_need_session(&op, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_good, setup),
        cmocka_unit_test_setup(test_none, setup),
        cmocka_unit_test_setup(test_malformed, setup),
        cmocka_unit_test_setup(test_device, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
