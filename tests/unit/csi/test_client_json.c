/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/json.h"
#include "csi/client.h"
#include "csi/client_json.h"
#include "csi/protowire.h"
#include "tests/support/nomem.h"
#include "tests/support/skip.h"
#include "tests/support/unit.h"

#include "coffer_admin.pb-c.h"
#include "csi.pb-c.h"

static json_t *parse(const char *text)
{
    json_t *v = json_own(text);
    if (v == NULL)
        fail_msg("no JSON: %s", text);
    return v;
}

static void assert_round_trip(const ProtobufCMessageDescriptor *desc, const char *in,
                              const char *out)
{
    AUTO_JSON json_t *request = parse(in);
    AUTO_JSON json_t *want = parse(out);
    AUTO_JSON json_t *got = NULL;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    if (json_to_wire(desc, request, &sb, &err) < 0 ||
        wire_to_json(desc, strbuf_text(&sb), sb.len, &got, &err) < 0)
        fail_msg("%s", err.msg);
    if (!json_equal(got, want)) {
        char *text = json_text(got, JSON_SORT_KEYS);
        fail_msg("%s is not %s", text, out);
    }
}

static void assert_refused(const ProtobufCMessageDescriptor *desc, const char *in, const char *text)
{
    AUTO_JSON json_t *request = parse(in);
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    assert_int_equal(json_to_wire(desc, request, &sb, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, text);
}

#define CREATE (&csi__v1__create_volume_request__descriptor)

static void both_spellings_and_all_kinds(void **state)
{
    assert_round_trip(
        CREATE,
        "{\"name\":\"p\",\"capacityRange\":{\"requiredBytes\":\"9223372036854775807\",\"limit_"
        "bytes\":-1},"
        "\"volumeCapabilities\":[{\"mount\":{\"fsType\":\"ext4\",\"mountFlags\":[\"ro\",\"\"]},"
        "\"accessMode\":{\"mode\":\"SINGLE_NODE_MULTI_WRITER\"}},{\"block\":{},\"access_mode\":{"
        "\"mode\":1}}],"
        "\"parameters\":{\"a\":\"1\",\"b\":\"\"},\"secrets\":null}",
        "{\"name\":\"p\",\"capacity_range\":{\"required_bytes\":9223372036854775807,\"limit_"
        "bytes\":-1},"
        "\"volume_capabilities\":[{\"mount\":{\"fs_type\":\"ext4\",\"mount_flags\":[\"ro\",\"\"]},"
        "\"access_mode\":{\"mode\":\"SINGLE_NODE_MULTI_WRITER\"}},{\"block\":{},"
        "\"access_mode\":{\"mode\":\"SINGLE_NODE_WRITER\"}}],\"parameters\":{\"a\":\"1\",\"b\":"
        "\"\"}}");
    assert_round_trip(
        &coffer__v1__unlock_key_request__descriptor,
        "{\"volume_id\":\"v\",\"outputPid\":\"12345\",\"output_fd\":7,\"reason\":\"r\"}",
        "{\"volume_id\":\"v\",\"output_pid\":12345,\"output_fd\":7,\"reason\":\"r\"}");
    assert_round_trip(&coffer__v1__unlock_key_request__descriptor,
                      "{\"output_fd\":\"18446744073709551615\"}",
                      "{\"output_fd\":\"18446744073709551615\"}");
    assert_round_trip(&csi__v1__list_volumes_request__descriptor, "{\"max_entries\":-5}",
                      "{\"max_entries\":-5}");
}

static void wrappers_are_bare_values(void **state)
{
    assert_round_trip(&csi__v1__probe_response__descriptor, "{\"ready\":false}",
                      "{\"ready\":false}");
    assert_round_trip(&csi__v1__probe_response__descriptor, "{\"ready\":true}", "{\"ready\":true}");
    assert_round_trip(&csi__v1__get_capacity_response__descriptor,
                      "{\"maximum_volume_size\":\"5\"}", "{\"maximum_volume_size\":5}");
    AUTO_JSON json_t *got = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(wire_to_json(&csi__v1__probe_response__descriptor, "\x0a\x00", 2, &got, &err),
                     0);
    assert_true(
        json_is_false(json_object_get(got, "ready"))); /* present, and its value is the default */
}

static void wrong_requests_name_the_field(void **state)
{
    assert_refused(CREATE, "{\"nmae\":\"x\"}", "csi.v1.CreateVolumeRequest has no field 'nmae'");
    assert_refused(CREATE, "{\"name\":1}", "field 'name' must be a string");
    assert_refused(CREATE, "{\"capacity_range\":[]}", "field 'capacity_range' must be an object");
    assert_refused(CREATE, "{\"capacity_range\":{\"required_bytes\":\"12x\"}}",
                   "field 'required_bytes' must be a number");
    assert_refused(CREATE, "{\"parameters\":[]}", "field 'parameters' must be an object");
    assert_refused(CREATE, "{\"parameters\":{\"a\":1}}",
                   "field 'parameters': the value of 'a' must be a string");
    assert_refused(CREATE, "{\"volume_capabilities\":{}}",
                   "field 'volume_capabilities' must be a list");
    assert_refused(CREATE, "{\"volume_capabilities\":[{\"access_mode\":{\"mode\":\"RWO\"}}]}",
                   "field 'mode': 'RWO' is not one of its names");
    assert_refused(&coffer__v1__unlock_key_request__descriptor, "{\"output_pid\":-1}",
                   "field 'output_pid' must be a number that is not negative");
    assert_refused(CREATE, "[]", "the request must be a JSON object");
}

static void unknown_reply_fields_are_dropped_and_broken_ones_refused(void **state)
{
    AUTO_JSON json_t *got = NULL;
    struct error err = ERROR_INIT;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1024);
    protowire_put_varint(&sb, 999, 1);
    protowire_put_bytes(&sb, 1, "n1", 2);
    assert_int_equal(wire_to_json(&csi__v1__node_get_info_response__descriptor, strbuf_text(&sb),
                                  sb.len, &got, &err),
                     0);
    assert_int_equal(json_object_size(got), 1);
    json_t *none = NULL;
    strbuf_add(&sb, "\x0a", 1);
    assert_int_equal(wire_to_json(&csi__v1__node_get_info_response__descriptor, strbuf_text(&sb),
                                  sb.len, &none, &err),
                     -1);
    assert_null(none);
}

/* A reply that there was no memory for isn't a broken one. */
static void no_memory_is_said(void **state)
{
    const ProtobufCMessageDescriptor *desc = &csi__v1__node_get_info_response__descriptor;
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1024);
    bool happened = true;
    if (!nomem_works())
        skip_because(SKIP_ALLOCATOR);
    AUTO_JSON json_t *request = parse("{\"node_id\":\"n1\",\"accessible_topology\":{\"segments\":"
                                      "{\"a\":\"b\"}}}");
    assert_works(json_to_wire(desc, request, &sb, &err));
    for (unsigned n = 1; happened; n++) {
        AUTO_JSON json_t *got = NULL;
        struct error err = ERROR_INIT;
        nomem_arm(n);
        int rc = wire_to_json(desc, strbuf_text(&sb), sb.len, &got, &err);
        happened = nomem_disarm();
        assert_true(rc == 0 ? json_equal(got, request) : error_is_memory(&err));
        assert_int_equal(rc, happened ? -1 : 0);
    }
}

static void finds_methods_by_either_name(void **state)
{
    static const char *const good[] = { "CreateVolume", "csi.v1.Controller/CreateVolume",
                                        "UnlockKey", "coffer.v1.NodeAdmin/UnlockKey",
                                        "csi.v1.Identity/Probe" };
    static const char *const bad[] = { "", "Nothing", "csi.v1.Node/CreateVolume",
                                       "Controller/CreateVolume", "/" };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct error err = ERROR_INIT;
        if (csi_client_check(good[i], NULL, &err) < 0)
            fail_msg("%s", err.msg);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(csi_client_check(bad[i], NULL, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_spellings_and_all_kinds),
        cmocka_unit_test(wrappers_are_bare_values),
        cmocka_unit_test(wrong_requests_name_the_field),
        cmocka_unit_test(unknown_reply_fields_are_dropped_and_broken_ones_refused),
        cmocka_unit_test(no_memory_is_said),
        cmocka_unit_test(finds_methods_by_either_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
