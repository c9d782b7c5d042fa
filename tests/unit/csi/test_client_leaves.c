/* SPDX-License-Identifier: Apache-2.0 */
/* A request may carry a session: what its encoding gives back to the heap has no byte of it. */
#include "common/base.h"
#include "csi/client_json.h"

#include "common/json.h"
#include "csi/client.h"
#include "tests/support/freed.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"

#include "csi.pb-c.h"

#define SESSION "c2Vzc2lvbiBvZiBhIGRldmljZSwgdG8gYmUgd2lwZWQ="

/* In a map, in a message, and where the whole has to grow behind it. */
static json_t *request(void)
{
    json_t *context = json_object(), *ret;
    char key[16];

    for (int i = 0; i < 200; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(json_object_set_new(context, key, json_string("some value")), 0);
    }
    ret = json_pack("{s:s, s:{s:s}, s:{s:{s:s}}, s:o}", "volume_id", "v", "secrets", "session",
                    SESSION, "volume_capability", "mount", "fs_type", SESSION, "volume_context",
                    context);
    assert_non_null(ret);
    return ret;
}

static void test_the_encoding(void **state UNUSED)
{
    AUTO_JSON json_t *obj = request();
    struct strbuf sb = STRBUF_WIPED_INIT(MIB(1));

    if (!freed_works())
        skip_because(SKIP_ALLOCATOR);
    freed_needle = SESSION;
    assert_works(json_to_wire(&csi__v1__node_stage_volume_request__descriptor, obj, &sb, &err));
    assert_non_null(memmem(sb.buf, sb.len, SESSION, strlen(SESSION)));
    strbuf_release(&sb);
    freed_needle = NULL;
    assert_int_equal(freed_found, 0);
}

/* Without a server: the call fails, and its request is gone. */
static void test_the_call(void **state UNUSED)
{
    AUTO_JSON json_t *obj = request();
    AUTO_JSON json_t *reply = NULL;
    struct error err = ERROR_INIT;

    if (!freed_works())
        skip_because(SKIP_ALLOCATOR);
    freed_needle = SESSION;
    assert_int_equal(csi_client_call("unix:///nowhere/csi.sock", "csi.v1.Node/NodeStageVolume", obj,
                                     2000, &reply, &err),
                     -1);
    freed_needle = NULL;
    assert_int_equal(freed_found, 0);
}

/* The look itself sees. */
static void test_control(void **state UNUSED)
{
    char *text;

    if (!freed_works())
        skip_because(SKIP_ALLOCATOR);
    freed_needle = SESSION;
    text = strdup(SESSION);
    free(text);
    freed_needle = NULL;
    assert_int_equal(freed_found, 1);
    freed_found = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_the_encoding),
        cmocka_unit_test(test_the_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
