/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/config.h"

#include "scheduler/driver.h"
#include "common/strbuf.h"
#include "tests/support/unit.h"

#define WHAT "the scheduler's configuration: "
#define HEAD \
    "{\"driver\":\"stub\",\"stub\":{},\"url\":\"https://c.example/clouds/\",\"tenant\":\"clouds\""

static int parse(const char *text, struct scheduler_config **ret, struct error *err)
{
    return scheduler_config_parse(text, strlen(text), ret, err);
}

static void test_defaults(void **state UNUSED)
{
    AUTO_SCHEDULER_CONFIG struct scheduler_config *c = NULL;

    assert_works(parse(HEAD "}", &c, &err));
    assert_ptr_equal(c->driver, driver_find("stub"));
    assert_true(json_is_object(c->options));
    assert_string_equal(c->fs, "ext4");
    assert_int_equal(c->size, GIB(1));
    assert_int_equal(c->memory, MIB(256));
    assert_string_equal(c->ready_path, "/personalcloud/");
    assert_int_equal(c->ready_seconds, 60);
    assert_int_equal(c->stop_seconds, 10);
    assert_int_equal(c->headroom_percent, 10);
    assert_false(c->spread);
    assert_int_equal(c->clouds_max, 0);
}

static void test_all(void **state UNUSED)
{
    AUTO_SCHEDULER_CONFIG struct scheduler_config *c = NULL;

    assert_works(
        parse(HEAD ",\"size\":5,\"fs\":\"xfs\",\"vm\":{\"memory\":33554432,\"ready_path\":\"/r\","
                   "\"ready_seconds\":2,\"stop_seconds\":0},\"place\":{\"headroom_percent\":0,"
                   "\"spread\":true,\"clouds_max\":7}}",
              &c, &err));
    assert_int_equal(c->size, 5);
    assert_string_equal(c->fs, "xfs");
    assert_int_equal(c->memory, MIB(32));
    assert_string_equal(c->ready_path, "/r");
    assert_int_equal(c->ready_seconds, 2);
    assert_int_equal(c->stop_seconds, 0);
    assert_int_equal(c->headroom_percent, 0);
    assert_true(c->spread);
    assert_int_equal(c->clouds_max, 7);
}

static void test_refused(void **state UNUSED)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        { "{}", WHAT "field 'driver' is missing" },
        { "{\"driver\":\"no\"}", WHAT "there is no driver 'no'" },
        { "{\"driver\":\"stub\"}", WHAT "field 'stub' is missing" },
        { HEAD ",\"kubernetes\":{}}", WHAT "unknown field 'kubernetes'" },
        { HEAD ",\"fs\":\"none\"}", WHAT "there is no file system 'none'" },
        { HEAD ",\"size\":0}", WHAT "field 'size' must not be 0" },
        { HEAD ",\"vm\":{\"memory\":1}}",
          WHAT "vm: field 'memory' must be at least 16777216 bytes" },
        { HEAD ",\"vm\":{\"ready_path\":\"x\"}}",
          WHAT "vm: field 'ready_path' must be a path, such as /personalcloud/" },
        { HEAD ",\"vm\":{\"ready_seconds\":0}}",
          WHAT "vm: field 'ready_seconds' must be 1 to 3600" },
        { HEAD ",\"vm\":{\"stop_seconds\":3601}}",
          WHAT "vm: field 'stop_seconds' must be at most 3600" },
        { HEAD ",\"place\":{\"headroom_percent\":91}}",
          WHAT "place: field 'headroom_percent' must be at most 90" },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct scheduler_config *c = NULL;

        assert_fails(parse(cases[i].text, &c, &err), ERR_INVALID, cases[i].message);
        assert_null(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
