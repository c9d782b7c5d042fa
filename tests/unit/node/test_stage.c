/* SPDX-License-Identifier: Apache-2.0 */
/* The runner of step tables: what is undone, in which order, and what the caller learns. */
#include "tests/support/unit.h"

#include "common/strbuf.h"
#include "node/stage.h"

static struct strbuf journal = STRBUF_INIT(1024);
static bool a_changes, b_changes, c_changes;
static enum error_code failing_code = ERR_DATA_LOSS;
static const char *failing_apply, *failing_undo;

static int apply(const char *name, bool changes, bool *changed, struct error *err)
{
    strbuf_addf(&journal, "+%s ", name);
    if (failing_apply != NULL && strcmp(failing_apply, name) == 0)
        return error_set(err, failing_code, "%s is broken", name);
    *changed = changes;
    return 0;
}

static int undo(const char *name, struct error *err)
{
    strbuf_addf(&journal, "-%s ", name);
    if (failing_undo != NULL && strcmp(failing_undo, name) == 0)
        return error_set(err, ERR_INTERNAL, "%s can't be undone", name);
    return 0;
}

#define FAKE(x)                                                             \
    static int x##_apply(struct stage *s, bool *changed, struct error *err) \
    {                                                                       \
        return apply(#x, x##_changes, changed, err);                        \
    }                                                                       \
    static int x##_undo(struct stage *s, struct error *err)                 \
    {                                                                       \
        return undo(#x, err);                                               \
    }
FAKE(a)
FAKE(b)
FAKE(c)

static int last_apply(struct stage *s, bool *changed, struct error *err)
{
    return apply("last", true, changed, err);
}

static const struct stage_step steps[] = {
    { "a", "a:before", "a:after", a_apply, a_undo, "a_us" },
    { "b", "b:before", "b:after", b_apply, b_undo, "b_us" },
    { "c", "c:before", "c:after", c_apply, c_undo, "c_us" },
    { "last", "last:before", "last:after", last_apply, NULL, "last_us" },
};

static void expect_run(int result, const char *want)
{
    struct node node = { .config = NULL };
    struct node_op op = { .node = &node, .volume = VOLUME_INIT, .device = BLOCK_DEVICE_INIT };
    struct stage s = { .op = &op };
    struct error err = ERROR_INIT;

    strbuf_clear(&journal);
    assert_int_equal(stage_run_steps(steps, ARRAY_SIZE(steps), &s, &err), result);
    assert_string_equal(strbuf_text(&journal), want);
}

static int reset(void **state UNUSED)
{
    a_changes = b_changes = c_changes = true;
    failing_apply = failing_undo = NULL;
    failing_code = ERR_DATA_LOSS;
    return 0;
}

static void test_all_work(void **state UNUSED)
{
    expect_run(0, "+a +b +c +last ");
}

static void test_undone_backwards(void **state UNUSED)
{
    failing_apply = "last";
    expect_run(-1, "+a +b +c +last -c -b -a ");
    failing_apply = "c"; /* the step that failed is not undone: it has cleaned up after itself */
    expect_run(-1, "+a +b +c -b -a ");
    failing_apply = "a";
    expect_run(-1, "+a ");
}

/* Also of the step that failed; none for those that never ran. */
static void test_time_of_each_step(void **state UNUSED)
{
    struct node node = { .config = NULL };
    struct phases phases = { .n = 0 };
    struct node_op op = {
        .node = &node, .volume = VOLUME_INIT, .device = BLOCK_DEVICE_INIT, .phases = &phases
    };
    struct stage s = { .op = &op };
    struct error err = ERROR_INIT;

    failing_apply = "b";
    assert_int_equal(stage_run_steps(steps, ARRAY_SIZE(steps), &s, &err), -1);
    assert_int_equal(phases.n, 2);
    assert_string_equal(phases.items[0].name, "a_us");
    assert_string_equal(phases.items[1].name, "b_us");
}

/* What was there before this call stays. */
static void test_only_what_changed_is_undone(void **state UNUSED)
{
    b_changes = false;
    failing_apply = "last";
    expect_run(-1, "+a +b +c +last -c -a ");
    a_changes = c_changes = false;
    expect_run(-1, "+a +b +c +last ");
}

static void test_error_names_the_step(void **state UNUSED)
{
    struct node node = { .config = NULL };
    struct node_op op = { .node = &node, .volume = VOLUME_INIT, .device = BLOCK_DEVICE_INIT };
    struct stage s = { .op = &op };

    failing_apply = "c";
    assert_fails(stage_run_steps(steps, ARRAY_SIZE(steps), &s, &err), ERR_DATA_LOSS,
                 "stage step 'c': c is broken");
}

/* A file or device that isn't there is not a volume that isn't there: the record was read. */
static void test_never_not_found(void **state UNUSED)
{
    struct node node = { .config = NULL };
    struct node_op op = { .node = &node, .volume = VOLUME_INIT, .device = BLOCK_DEVICE_INIT };
    struct stage s = { .op = &op };

    failing_apply = "b";
    failing_code = ERR_NOT_FOUND;
    assert_fails(stage_run_steps(steps, ARRAY_SIZE(steps), &s, &err), ERR_INTERNAL,
                 "stage step 'b': b is broken");
}

/* Something may be left: the answer must be one that is repeated. Below it nothing is taken away.
 */
static void test_failed_undo(void **state UNUSED)
{
    struct node node = { .config = NULL };
    struct node_op op = { .node = &node, .volume = VOLUME_INIT, .device = BLOCK_DEVICE_INIT };
    struct stage s = { .op = &op };

    failing_apply = "last";
    failing_undo = "b";
    strbuf_clear(&journal);
    assert_fails(stage_run_steps(steps, ARRAY_SIZE(steps), &s, &err), ERR_ABORTED,
                 "stage step 'last': last is broken");
    assert_string_equal(strbuf_text(&journal), "+a +b +c +last -c -b ");
}

static int release(void **state UNUSED)
{
    strbuf_release(&journal);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_work, reset),
        cmocka_unit_test_setup(test_undone_backwards, reset),
        cmocka_unit_test_setup(test_time_of_each_step, reset),
        cmocka_unit_test_setup(test_only_what_changed_is_undone, reset),
        cmocka_unit_test_setup(test_error_names_the_step, reset),
        cmocka_unit_test_setup(test_never_not_found, reset),
        cmocka_unit_test_setup(test_failed_undo, reset),
    };

    return cmocka_run_group_tests(tests, NULL, release);
}
