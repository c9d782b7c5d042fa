/* SPDX-License-Identifier: Apache-2.0 */
/* What reading a body leaves on the stack of its thread, which may wait long for the next one. */
#include "common/base.h"
#include "scheduler/body.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"
#include "tests/support/wiped_crypto.h"

#include <pthread.h>

#define ID         "0123456789abcdef0123456789abcdef"
#define SECRET_LEN 48

struct request {
    const char *text;
    struct operation *op;
    struct error err;
    int result;
};

static void *read_it(void *request)
{
    struct request *r = request;
    const struct body b = { .data = r->text, .len = strlen(r->text) };

    r->result = body_mount(&b, r->op, &r->err);
    return NULL;
}

/* By a thread whose stack is ours to look at. */
static void read_on(void *stack, size_t size, struct request *r)
{
    pthread_attr_t attr;
    pthread_t thread;

    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstack(&attr, stack, size), 0);
    assert_int_equal(pthread_create(&thread, &attr, read_it, r), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(pthread_attr_destroy(&attr), 0);
}

static void test_no_session(void **state UNUSED)
{
    static _Alignas(4096) unsigned char stack[1 << 20];
    unsigned char secret[SECRET_LEN];
    char session[B64_LEN(SECRET_LEN) + 1], text[128];
    AUTO_OPERATION struct operation *op = NULL;
    struct request r = { .text = text, .err = ERROR_INIT, .result = -1 };

    if (!nomem_works())
        skip_because(SKIP_STACK);
    for (size_t i = 0; i < sizeof(secret); i++)
        secret[i] = (unsigned char)(i * 37 + 11);
    b64_encode(session, secret, sizeof(secret));
    (void)snprintf(text, sizeof(text), "{\"session\": \"%s\", \"serverKey\": \"k:1\"}", session);
    assert_works(operation_new(OPERATION_MOUNT, ID, &op, &err));
    r.op = op;
    read_on(stack, sizeof(stack), &r);
    assert_int_equal(r.result, 0);
    assert_string_equal(op->input.session, session);
    assert_null(memmem(stack, sizeof(stack), secret, sizeof(secret)));
    assert_null(memmem(stack, sizeof(stack), session, strlen(session)));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_no_session) };

    /* as http_global_init does */
    if (!wiped_crypto())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
