/* SPDX-License-Identifier: Apache-2.0 */
/* What coffer-launch is asked, and what is made of its answers, wrong ones too. */
#include "common/base.h"
#include "scheduler/launch_client.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/unit/scheduler/played.h"

#define ID  "0123456789abcdef0123456789abcdef"
#define ID2 "1123456789abcdef0123456789abcdef"
#define VM(id, state, status)                                                                 \
    "{\"id\":\"" id "\",\"state\":\"" state "\",\"status\":\"" status "\",\"pid\":7,\"uid\":" \
    "2000000,\"memory\":9}"

static void test_start(void **state UNUSED)
{
    struct played p = { .n = 0 };
    bool started = false;

    played_start(&p, "{\"ok\":true,\"started\":true}\n", SIZE_MAX);
    assert_works(launch_start(p.path, ID, deadline_in(30000), &started, &err));
    played_end(&p);
    assert_true(started);
    assert_string_equal(p.got, "{\"verb\":\"start\",\"id\":\"" ID "\"}");
}

static void test_stop(void **state UNUSED)
{
    struct played p = { .n = 0 };

    played_start(&p, "{\"ok\":true}", SIZE_MAX);
    assert_works(launch_stop(p.path, ID, 1500, deadline_in(30000), &err));
    played_end(&p);
    assert_string_equal(p.got, "{\"verb\":\"stop\",\"id\":\"" ID "\",\"grace_ms\":1500}");
}

static void test_list(void **state UNUSED)
{
    struct played p = { .n = 0 };
    AUTO_FREE struct launch_vm *vms = NULL;
    size_t n = 0;

    played_start(&p,
                 "{\"ok\":true,\"vms\":[" VM(ID2, "exited", "out of memory") "," VM(ID, "running",
                                                                                    "") "]}\n",
                 SIZE_MAX);
    assert_works(launch_list(p.path, deadline_in(30000), &vms, &n, &err));
    played_end(&p);
    assert_string_equal(p.got, "{\"verb\":\"list\"}");
    assert_int_equal(n, 2);
    const struct launch_vm *vm = launch_vm_find(vms, n, ID2);
    assert_non_null(vm);
    assert_false(vm->running);
    assert_string_equal(vm->status, "out of memory");
    vm = launch_vm_find(vms, n, ID);
    assert_true(vm != NULL && vm->running && vm->pid == 7 && vm->uid == 2000000);
    assert_null(launch_vm_find(vms, n, "2123456789abcdef0123456789abcdef"));
    assert_null(launch_vm_find(vms, 0, ID));
}

static void expect(const char *says, enum error_code code, const char *sentence)
{
    struct played p = { .n = 0 };
    struct launch_vm *vms = NULL;
    size_t n = 7;

    played_start(&p, says, SIZE_MAX);
    assert_fails(launch_list(p.path, deadline_in(30000), &vms, &n, &err), code, sentence);
    played_end(&p);
    assert_null(vms);
    assert_int_equal(n, 7);
}

static void test_refusals(void **state UNUSED)
{
    expect("{\"error\":{\"code\":\"FAILED_PRECONDITION\",\"message\":\"Why.\"}}", ERR_PRECONDITION,
           "coffer-launch: Why.");
    expect("{\"error\":{\"code\":\"ABORTED\",\"message\":\"Busy.\"}}", ERR_ABORTED,
           "coffer-launch: Busy.");
    expect("{\"error\":{\"code\":\"NEW\"}}", ERR_INTERNAL, "coffer-launch: it gave no reason");
    expect("{\"error\":{\"code\":\"OK\",\"message\":\"x\"}}", ERR_INTERNAL, "coffer-launch: x");
}

static void test_no_answers(void **state UNUSED)
{
    expect("", ERR_UNAVAILABLE, "coffer-launch: it ended without an answer");
    expect("{\"ok\":tr", ERR_INTERNAL,
           "coffer-launch: its answer is not valid JSON: the syntax is wrong (line 1, column 8)");
    expect("{}", ERR_INTERNAL, "coffer-launch: its answer is neither ok nor an error");
    expect("{\"ok\":true}", ERR_INTERNAL, "coffer-launch's list has no VMs");
    expect("{\"ok\":true,\"vms\":[{}]}", ERR_INTERNAL,
           "coffer-launch's list: field 'id' is missing");
    expect("{\"ok\":true,\"vms\":[" VM("x", "running", "") "]}", ERR_INTERNAL,
           "coffer-launch's list has an entry that is no VM");
    expect("{\"ok\":true,\"vms\":[" VM(ID, "asleep", "") "]}", ERR_INTERNAL,
           "coffer-launch's list has an entry that is no VM");
}

static void test_nobody_and_nothing(void **state UNUSED)
{
    struct played p = { .silent = true };
    bool started;

    assert_fails(launch_start("/nowhere/s", ID, deadline_in(30000), &started, &err),
                 ERR_UNAVAILABLE, "coffer-launch: connect: No such file or directory");
    assert_fails(launch_start("/nowhere/s", ID, 0, &started, &err), ERR_DEADLINE,
                 "coffer-launch: no time was left to connect");
    played_start(&p, "", SIZE_MAX);
    assert_fails(launch_start(p.path, ID, deadline_in(50), &started, &err), ERR_DEADLINE,
                 "coffer-launch: the other side of a socket took too long");
    played_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),      cmocka_unit_test(test_stop),
        cmocka_unit_test(test_list),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_answers), cmocka_unit_test(test_nobody_and_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
