/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/answer.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "tests/unit/scheduler/played_driver.h"

static struct scheduler *const s = &played_scheduler;

/* The cloud as the rounds saw it. */
static struct entry *seen(bool open, enum vm_state vm)
{
    struct cloud *c = played_add(ID);
    struct entry *e;

    scheduler_round(s);
    e = played_entry(ID);
    assert_non_null(e);
    e->cloud.open = c->open = open;
    e->cloud.vm = c->vm = vm;
    return e;
}

static json_t *find(const struct entry *e, const char *name, unsigned int *status)
{
    json_t *ret = NULL;

    assert_works(answer_find(s, e, name, false, &ret, status, &err));
    return ret;
}

/* The whole answer, its keys sorted. */
static void assert_says(const struct entry *e, const char *name, unsigned int want_status,
                        const char *want)
{
    unsigned int status = 0;
    AUTO_JSON json_t *answer = find(e, name, &status);
    AUTO_JSON json_t *wanted = json_own(want);
    AUTO_FREE char *text = json_text(answer, JSON_SORT_KEYS | JSON_COMPACT);
    AUTO_FREE char *want_text = json_text(wanted, JSON_SORT_KEYS | JSON_COMPACT);

    assert_non_null(want_text);
    assert_string_equal(text, want_text);
    assert_int_equal(status, want_status);
}

#define KEY "\"serverKey\":{\"keyId\":\"k:1\",\"hash\":\"SHA-256\",\"publicKey\":\"AAAA\"}"
#define WHO "\"name\":\"" DEVICE "\",\"id\":\"" ID "\""
#define OPENER                                                                           \
    KEY ",\"volumeId\":\"n1/" ID "\",\"uuid\":\"00000000-0000-4000-8000-000000000000\"," \
        "\"wrappedKey\":\"d3JhcHBlZA==\",\"algorithm\":\"RSA-OAEP-256\""

/* ---- statuses ---- */

static void test_statuses(void **state UNUSED)
{
    static const struct {
        bool open;
        enum vm_state vm;
        enum cloud_status want;
    } cases[] = {
        { false, VM_NONE, CLOUD_DETACHED },   { true, VM_READY, CLOUD_ATTACHED },
        { true, VM_STARTING, CLOUD_PENDING }, { true, VM_NONE, CLOUD_PENDING },
        { false, VM_READY, CLOUD_PENDING },   { false, VM_STARTING, CLOUD_PENDING },
        { true, VM_FAILED, CLOUD_FAILURE },   { false, VM_FAILED, CLOUD_FAILURE },
    };
    struct entry *e = seen(false, VM_NONE);
    struct operation *op = NULL;

    assert_int_equal(answer_status(NULL), CLOUD_NONEXISTENT);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        e->cloud.open = cases[i].open;
        e->cloud.vm = cases[i].vm;
        assert_int_equal(answer_status(e), cases[i].want);
    }
    memcpy(e->failure, "mount: no", sizeof("mount: no"));
    e->cloud.vm = VM_READY;
    assert_int_equal(answer_status(e), CLOUD_FAILURE);
    e->cloud.volume[0] = '\0';
    assert_int_equal(answer_status(e), CLOUD_FAILURE);
    assert_works(operation_new(OPERATION_MOUNT, ID, &op, &err));
    e->op = op;
    s->n_operations++;
    assert_int_equal(answer_status(e), CLOUD_PENDING); /* what runs is what counts */
    op->row = &operation_rows[OPERATION_ADD];
    assert_int_equal(answer_status(e), CLOUD_FAILURE); /* but the VM isn't on its way for it */
    e->failure[0] = '\0';
    assert_int_equal(answer_status(e), CLOUD_NONEXISTENT);
}

static void test_numbers(void **state UNUSED)
{
    const struct entry *e = seen(false, VM_NONE);
    AUTO_JSON json_t *answer = NULL;
    unsigned int status;

    assert_works(answer_find(s, e, DEVICE, true, &answer, &status, &err));
    assert_int_equal(json_integer_value(json_object_get(answer, "status")), 2);
    assert_string_equal(cloud_status_names[CLOUD_NONEXISTENT], "nonexistent");
    assert_int_equal(CLOUD_NONEXISTENT, 0);
    assert_int_equal(CLOUD_FAILURE, 4);
}

/* ---- find ---- */

static void test_nonexistent(void **state UNUSED)
{
    scheduler_round(s);
    assert_says(NULL, DEVICE, 404,
                "{" WHO ",\"status\":\"nonexistent\"," KEY ",\"volumeId\":\"n1/" ID
                "\",\"node\":\"n1\"}");
    played_ops.names_volumes = false;
    assert_says(NULL, DEVICE, 404,
                "{" WHO ",\"status\":\"nonexistent\"," KEY ",\"volumeId\":null,\"node\":null}");
}

static void test_attached(void **state UNUSED)
{
    assert_says(seen(true, VM_READY), DEVICE, 200,
                "{" WHO ",\"status\":\"attached\",\"url\":\"https://clouds.example/c/" ID "/\"}");
}

static void test_detached(void **state UNUSED)
{
    const struct entry *e = seen(false, VM_NONE);
    unsigned int status;

    assert_says(e, DEVICE, 200, "{" WHO ",\"status\":\"detached\"," OPENER "}");
    AUTO_JSON json_t *answer = find(e, OTHER OTHER, &status); /* a device that isn't on the list */
    assert_null(json_object_get(answer, "wrappedKey"));
    assert_null(json_object_get(answer, "algorithm"));
    assert_string_equal(json_string_value(json_object_get(answer, "id")), ID);
}

static void test_pending(void **state UNUSED)
{
    struct entry *e = seen(true, VM_STARTING);

    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"pending\",\"operation\":\"mount\",\"step\":\"ready\"}");
    e->cloud.vm = VM_NONE;
    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"pending\",\"operation\":\"lock\",\"step\":\"vm\"}");
    assert_works(operation_new(OPERATION_CREATE, ID, &e->op, &err));
    s->n_operations++;
    e->op->step = 2;
    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"pending\",\"operation\":\"create\",\"step\":\"attach\"}");
}

static void test_failure(void **state UNUSED)
{
    struct entry *e = seen(true, VM_FAILED);

    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"failure\","
                "\"reason\":\"the VM ended: it doesn't say why\"}");
    memcpy(e->cloud.reason, "signal 9", sizeof("signal 9"));
    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"failure\",\"reason\":\"the VM ended: signal 9\"}");
    memcpy(e->failure, "lock: no", sizeof("lock: no"));
    assert_says(e, DEVICE, 200, "{" WHO ",\"status\":\"failure\",\"reason\":\"lock: no\"}");
    e->cloud.open = false; /* it can be tried again */
    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"failure\",\"reason\":\"lock: no\"," OPENER "}");
    e->cloud.volume[0] = '\0'; /* made again */
    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"failure\",\"reason\":\"lock: no\"," KEY
                ",\"volumeId\":\"n1/" ID "\",\"node\":\"n1\"}");
}

static void assert_no_answer(const struct entry *e, enum error_code code, const char *sentence)
{
    json_t *ret = NULL;
    unsigned int status = 7;

    assert_fails(answer_find(s, e, DEVICE, false, &ret, &status, &err), code, sentence);
    assert_true(ret == NULL && status == 7);
}

static void test_what_isnt_known(void **state UNUSED)
{
    struct entry *e = seen(false, VM_NONE);

    s->server_key_at = 0;
    assert_no_answer(NULL, ERR_UNAVAILABLE, "the server's key can't be told now: not asked yet");
    memcpy(s->server_key_error, "Vault is sealed", sizeof("Vault is sealed"));
    assert_no_answer(e, ERR_UNAVAILABLE, "the server's key can't be told now: Vault is sealed");
    e->cloud.open = true; /* it needs no key to be told */
    e->cloud.vm = VM_READY;
    assert_says(e, DEVICE, 200,
                "{" WHO ",\"status\":\"attached\",\"url\":\"https://clouds.example/c/" ID "/\"}");
    s->server_key_at = clock_ms();
    s->nodes[0].schedulable = s->nodes[1].schedulable = false;
    assert_no_answer(NULL, ERR_UNAVAILABLE, "no node has room: 2 takes no VMs now");
}

/* ---- lists ---- */

static void test_devices(void **state UNUSED)
{
    struct entry *e = seen(false, VM_NONE);
    AUTO_JSON json_t *list = answer_devices(e);
    AUTO_JSON json_t *own = NULL;
    const json_t *d = json_array_get(json_object_get(list, "devices"), 0);

    assert_int_equal(json_object_size(d), 5); /* never a wrapped key */
    assert_string_equal(json_string_value(json_object_get(d, "label")), "phone");
    assert_string_equal(json_string_value(json_object_get(d, "name")), DEVICE);
    assert_works(answer_own(s, e, DEVICE, &own, &err));
    assert_true(json_equal(json_object_get(own, "devices"), json_object_get(list, "devices")));
    assert_string_equal(json_string_value(json_object_get(own, "wrappedKey")), "d3JhcHBlZA==");
    assert_int_equal(json_object_size(own), 6);
    s->server_key_at = 0;
    json_t *none = NULL;
    assert_fails(answer_own(s, e, DEVICE, &none, &err), ERR_UNAVAILABLE,
                 "the server's key can't be told now: not asked yet");
    assert_null(none);
}

static const char *text(const json_t *row, const char *key)
{
    const char *value = json_string_value(json_object_get(row, key));

    return value != NULL ? value : "";
}

static void test_the_admins_list(void **state UNUSED)
{
    static const struct unread u = {
        .id = "", .volume = "n1/" ID, .node = "n1", .reason = "no magic"
    };
    struct entry *e = seen(true, VM_FAILED);

    memcpy(e->cloud.reason, "signal 9", sizeof("signal 9"));
    AUTO_JSON json_t *row = answer_cloud(e, NULL), *hidden = answer_cloud(e, &u);
    AUTO_JSON json_t *unknown = answer_unread(&u);
    assert_string_equal(text(row, "status"), "failure");
    assert_string_equal(text(row, "reason"), "signal 9");
    assert_string_equal(text(row, "vm"), "failed");
    assert_true(json_is_true(json_object_get(row, "open")));
    assert_string_equal(text(hidden, "status"), "unreadable");
    assert_string_equal(text(hidden, "reason"), "no magic");
    assert_string_equal(text(hidden, "id"), ID);
    assert_string_equal(text(unknown, "status"), "unreadable");
    assert_true(json_is_null(json_object_get(unknown, "id")));
    assert_string_equal(text(unknown, "volumeId"), "n1/" ID);
    assert_int_equal(json_object_size(unknown), json_object_size(row)); /* the same columns */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED_TEST(test_statuses),    PLAYED_TEST(test_numbers),
        PLAYED_TEST(test_nonexistent), PLAYED_TEST(test_attached),
        PLAYED_TEST(test_detached),    PLAYED_TEST(test_pending),
        PLAYED_TEST(test_failure),     PLAYED_TEST(test_what_isnt_known),
        PLAYED_TEST(test_devices),     PLAYED_TEST(test_the_admins_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
