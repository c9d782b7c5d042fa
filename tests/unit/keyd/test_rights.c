/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/rights.h"

#include "tests/support/unit.h"

#define OPS \
    " is not an operation (MINT, UNWRAP, DESTROY, WRAP_FOR, UNWRAP_CLIENT, SERVER_KEY, STATUS)"

static void parse(struct rights *ret, const char *a, const char *b, const char *c)
{
    struct flag_strings texts = { .items = { a, b, c }, .len = c != NULL ? 3 : b != NULL ? 2 : 1 };

    assert_works(rights_parse(&texts, "/nowhere", ret, &err));
}

static void test_each_has_its_own(void **state UNUSED)
{
    bool may[WIRE_OP_LIMIT];
    struct rights r;

    parse(&r, "0:0", "991:990:MINT,DESTROY", NULL);
    assert_true(rights_of(&r, 0, 0, may));
    assert_true(may[WIRE_UNWRAP] && may[WIRE_MINT] && may[WIRE_UNWRAP_CLIENT]);
    assert_true(rights_of(&r, 991, 990, may));
    assert_true(may[WIRE_MINT] && may[WIRE_DESTROY] && may[WIRE_STATUS]);
    assert_false(may[WIRE_UNWRAP] || may[WIRE_UNWRAP_CLIENT] || may[WIRE_WRAP_FOR] ||
                 may[WIRE_SERVER_KEY]);
    assert_false(rights_of(&r, 991, 0, may));
    assert_false(may[WIRE_STATUS]);
}

static void test_who_is_named_twice_has_both(void **state UNUSED)
{
    bool may[WIRE_OP_LIMIT];
    struct rights r;

    parse(&r, "7:7:MINT", "8:8", "7:7:DESTROY");
    assert_true(rights_of(&r, 7, 7, may));
    assert_true(may[WIRE_MINT] && may[WIRE_DESTROY]);
    assert_false(may[WIRE_UNWRAP]);
}

static void refused(const char *text, const char *message)
{
    const struct flag_strings texts = { .items = { "0:0", text }, .len = 2 };
    struct rights r = { .peers = { .n = 7 } };

    assert_fails(rights_parse(&texts, "/nowhere", &r, &err), ERR_INVALID, message);
    assert_int_equal(r.peers.n, 7);
}

static void test_refusals(void **state UNUSED)
{
    char text[200], message[200];

    refused("1:1:", "--peer '1:1:': ''" OPS);
    refused("1:1:REWRAP", "--peer '1:1:REWRAP': 'REWRAP'" OPS);
    refused("1:1:MINT:UNWRAP", "--peer '1:1:MINT:UNWRAP': 'MINT:UNWRAP'" OPS);
    refused("1::MINT", "--peer '1:': '' is neither a number nor a name");
    refused("MINT", "--peer 'MINT': not USER:GROUP, by number or name");
    memset(text, '1', sizeof(text));
    memcpy(text + sizeof(text) - 8, ":1:MINT", 8);
    (void)snprintf(message, sizeof(message), "--peer '%.100s': not USER:GROUP, by number or name",
                   text);
    refused(text, message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_its_own),
        cmocka_unit_test(test_who_is_named_twice_has_both),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
