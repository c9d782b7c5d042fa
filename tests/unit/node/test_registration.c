/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "node/registration.h"

static unsigned ends;

static void end(void)
{
    ends++;
}

static struct registration fresh(void)
{
    ends = 0;
    return (struct registration){ .driver_name = "d.example", .endpoint = "/csi.sock", .end = end };
}

static void tell(struct registration *r, bool registered)
{
    const struct csi_registration_status status = { .registered = registered, .error = "no" };
    struct error err = ERROR_INIT;

    assert_int_equal(registration_ops.notify(r, NULL, &status, &err), 0);
}

static void says_what_kubelet_wants_to_know(void **state)
{
    struct registration r = fresh();
    struct csi_registration_info info;
    struct error err = ERROR_INIT;

    assert_int_equal(registration_ops.get_info(&r, NULL, &info, &err), 0);
    assert_string_equal(info.type, "CSIPlugin");
    assert_string_equal(info.name, "d.example");
    assert_string_equal(info.endpoint, "/csi.sock");
    assert_int_equal(info.versions.n, 1);
    assert_string_equal(info.versions.items[0], "1.0.0");
    assert_int_equal(r.asked, 1);
}

static void a_first_refusal_ends_the_process(void **state)
{
    struct registration r = fresh();

    tell(&r, false);
    assert_int_equal(ends, 1);
    assert_true(r.refused);
    assert_false(r.registered);
}

static void a_later_refusal_does_not(void **state)
{
    struct registration r = fresh();

    tell(&r, true);
    assert_true(r.registered);
    tell(&r, false);
    assert_false(r.registered);
    tell(&r, true);
    assert_true(r.registered);
    assert_int_equal(ends, 0);
    assert_false(r.refused);
    assert_int_equal(r.accepted, 2);
    assert_int_equal(r.refusals, 1);
}

static void checks_what_kubelet_could_not_use(void **state)
{
    static const struct {
        const char *path, *endpoint, *word;
    } bad[] = {
        { "reg.sock", "/c", "--registration 'reg.sock' must be" },
        { "", "/c", "--registration ''" },
        { "/r/", "/c", "absolute path" },
        { "/r/.x", "/c", "begins with '.'" },
        { "/r", "", "--registration-endpoint ''" },
        { "/r", "unix:///c", "--registration-endpoint 'unix:///c'" },
    };
    struct error err = ERROR_INIT;

    assert_int_equal(registration_check("/r/d-reg.sock", "/c/csi.sock", &err), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        err = (struct error)ERROR_INIT;
        assert_int_equal(registration_check(bad[i].path, bad[i].endpoint, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_non_null(strstr(err.msg, bad[i].word));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_kubelet_wants_to_know),
        cmocka_unit_test(a_first_refusal_ends_the_process),
        cmocka_unit_test(a_later_refusal_does_not),
        cmocka_unit_test(checks_what_kubelet_could_not_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
