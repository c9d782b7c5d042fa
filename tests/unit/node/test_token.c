/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/request.h"

#include "common/arena.h"
#include "tests/support/unit.h"

#define KEY   "csi.storage.k8s.io/serviceAccount.tokens"
#define TOKEN "eyJhbGciOi.SECRET-PART.c2ln"
#define GOOD \
    "{\"vault\":{\"token\":\"" TOKEN "\",\"expirationTimestamp\":\"2026-11-22T01:02:03Z\"}}"

static struct csi_pair secret, context;
static const char *token;

static int ask(struct arena *arena, const char *in_secrets, const char *in_context,
               struct error *err)
{
    struct csi_publish_request req = { .volume_id = "x" };

    secret = (struct csi_pair){ KEY, in_secrets };
    context = (struct csi_pair){ KEY, in_context };
    req.secrets = (struct csi_map){ .items = &secret, .n = in_secrets != NULL };
    req.volume_context = (struct csi_map){ .items = &context, .n = in_context != NULL };
    token = "left over";
    return request_token(arena, &req, &token, err);
}

static void test_both_places(void **state UNUSED)
{
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));

    assert_works(ask(arena, GOOD, NULL, &err));
    assert_string_equal(token, TOKEN);
    assert_works(ask(arena, NULL, GOOD, &err));
    assert_string_equal(token, TOKEN);
    assert_works(ask(arena, GOOD, "{\"vault\":{\"token\":\"older\"}}", &err)); /* secrets first */
    assert_string_equal(token, TOKEN);
    assert_works(ask(arena, "{\"\":{\"token\":\"x\"},\"vault\":{\"token\":\"y\"}}", NULL, &err));
    assert_string_equal(token, "y");
}

static void test_none(void **state UNUSED)
{
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));

    assert_works(ask(arena, NULL, NULL, &err));
    assert_null(token);
    assert_works(ask(arena, "{\"other\":{\"token\":\"" TOKEN "\"}}", NULL, &err));
    assert_null(token);
    assert_works(ask(arena, "{}", GOOD, &err)); /* one place is asked, not both */
    assert_null(token);
}

/* No sentence shows any of it. */
static void test_unreadable(void **state UNUSED)
{
    AUTO_ARENA struct arena *arena = arena_new(MIB(1));
    static const char *const texts[] = {
        "",
        "SECRET-PART",
        "{\"vault\":{\"token\":\"SECRET-PART\"}",
        "{\"vault\":{\"token\":\"SECRET-PART\"},\"vault\":{}}",
        "{\"vault\":\"SECRET-PART\"}",
        "{\"vault\":{\"token\":[\"SECRET-PART\"]}}",
        "{\"vault\":{\"token\":\"\"}}",
        "{\"vault\":{\"TOKEN\":\"SECRET-PART\"}}",
        "[\"SECRET-PART\"]",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct error err = ERROR_INIT;

        if (ask(arena, texts[i], GOOD, &err) == 0)
            fail_msg("accepted: %s", texts[i]);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, KEY));
        assert_null(strstr(err.msg, "SECRET"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_places),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_unreadable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
