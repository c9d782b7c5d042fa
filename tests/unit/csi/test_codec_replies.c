/* SPDX-License-Identifier: Apache-2.0 */
/* From what an op returned to the reply's JSON. */
#include "tests/unit/csi/codec.h"

static const struct csi_pair pair = { "topology.x/node", "n1" };
static const struct csi_topology here = { .segments = { &pair, 1 } };
static const struct csi_pair context[] = { { "kms", "vault" }, { "tenant", "a" } };
static const struct csi_volume volume = { 7, "id1", { context, 2 }, { &here, 1 } };
static struct csi_validate_reply validate_reply;
static bool on, made;

static int info(void *ctx, struct csi_call *call, struct csi_plugin_info *ret, struct error *err)
{
    *ret = (struct csi_plugin_info){ "csi.x", "1" };
    return 0;
}
static int caps(void *ctx, struct csi_call *call, struct csi_plugin_caps *ret, struct error *err)
{
    *ret = (struct csi_plugin_caps){ on, on, on };
    return 0;
}
static int probe(void *ctx, struct csi_call *call, bool *ret, struct error *err)
{
    *ret = on;
    return 0;
}
static int create(void *ctx, struct csi_call *call, const struct csi_create_volume_request *r,
                  struct csi_volume *ret, struct error *err)
{
    *ret = volume;
    made = true;
    return 0;
}
static int delete (void *ctx, struct csi_call *call, const struct csi_delete_volume_request *r,
                   struct error *err)
{
    return error_set(err, ERR_PRECONDITION, "in use");
}
static int validate(void *ctx, struct csi_call *call, const struct csi_validate_request *r,
                    struct csi_validate_reply *ret, struct error *err)
{
    *ret = validate_reply;
    return 0;
}
static int list(void *ctx, struct csi_call *call, const struct csi_list_request *r,
                struct csi_list_reply *ret, struct error *err)
{
    *ret = (struct csi_list_reply){ &volume, r->max_entries > 0, r->starting_token };
    return 0;
}
static int capacity(void *ctx, struct csi_call *call, const struct csi_capacity_request *r,
                    struct csi_capacity_reply *ret, struct error *err)
{
    *ret = (struct csi_capacity_reply){ UINT64_MAX, on ? 3 : 0, on ? 4 : 0 };
    return 0;
}
static int controller_caps(void *ctx, struct csi_call *call, struct csi_controller_caps *ret,
                           struct error *err)
{
    *ret = (struct csi_controller_caps){ true, on, on, on, on };
    return 0;
}
static int expand(void *ctx, struct csi_call *call, const struct csi_expand_request *r,
                  struct csi_controller_expand_reply *ret, struct error *err)
{
    *ret = (struct csi_controller_expand_reply){ r->required_bytes, on };
    return 0;
}
static int stats(void *ctx, struct csi_call *call, const struct csi_stats_request *r,
                 struct csi_stats_reply *ret, struct error *err)
{
    *ret = (struct csi_stats_reply){ { { 1, 2, 3, 1 }, { 4, 5, 6, 2 } }, on ? 2 : 1 };
    return 0;
}
static int node_caps(void *ctx, struct csi_call *call, struct csi_node_caps *ret, struct error *err)
{
    *ret = (struct csi_node_caps){ on, on, on, on };
    return 0;
}
static int node_info(void *ctx, struct csi_call *call, struct csi_node_info *ret, struct error *err)
{
    *ret = (struct csi_node_info){ "n1", 5,
                                   on ? here : (struct csi_topology){ .segments = { NULL, 0 } } };
    return 0;
}
static int node_expand(void *ctx, struct csi_call *call, const struct csi_expand_request *r,
                       struct csi_node_expand_reply *ret, struct error *err)
{
    ret->capacity_bytes = r->required_bytes;
    return 0;
}

static int describe(void *ctx, struct csi_call *call, const struct csi_describe_request *r,
                    struct csi_describe_reply *ret, struct error *err)
{
    static const struct csi_recipient recipient = { "f", "a", "l", "k", "w" };
    static const char *const points[] = { "/a", "/b" };
    static const struct csi_description d[] = {
        { .volume_id = "v",
          .name = "n",
          .uuid = "u",
          .tenant = "t",
          .kms = "k",
          .key_source = "client",
          .commitment = "c",
          .state = "ready",
          .fs = "ext4",
          .problem = "",
          .size = 9,
          .open = true,
          .mounted_at = { points, 2 },
          .recipients = &recipient,
          .n_recipients = 1 },
        { .volume_id = "w",
          .name = "",
          .uuid = "",
          .tenant = "",
          .kms = "",
          .key_source = "",
          .commitment = "",
          .state = "",
          .fs = "",
          .problem = "why" },
    };
    static const struct csi_pair tag = { "fast", "0a1b2c3d" };
    assert_string_equal(r->name_prefix, "p");
    assert_string_equal(r->pool, "fast");
    assert_int_equal(r->max_entries, 2);
    *ret = (struct csi_describe_reply){ d, 2, r->starting_token, { &tag, 1 } };
    return 0;
}

static const struct csi_admin_ops admin = { .describe_volumes = describe };
static const struct csi_identity_ops identity = { info, caps, probe };
static const struct csi_controller_ops controller = { create,   delete,          validate, list,
                                                      capacity, controller_caps, expand };
static const struct csi_node_ops node = { .get_volume_stats = stats,
                                          .get_capabilities = node_caps,
                                          .get_info = node_info,
                                          .expand_volume = node_expand };
static const struct csi_service service = {
    .identity = &identity, .controller = &controller, .node = &node, .admin = &admin
};

static int call(const char *name, const char *json, json_t **ret, struct error *err)
{
    const struct method *m = method_called(name);
    struct csi_call c = { .arena = arena };
    struct request r = { .message = NULL };
    ProtobufCMessage *reply = NULL;
    if (decode(name, json, &r, err) < 0 || m->run(&service, &c, r.decoded, &reply, err) < 0)
        return -1;
    size_t len = protobuf_c_message_get_packed_size(reply);
    uint8_t *bytes = arena_alloc(arena, len + 1);
    assert_int_equal(protobuf_c_message_pack(reply, bytes), len);
    return wire_to_json(reply->descriptor, bytes, len, ret, err);
}

static void assert_reply(const char *name, const char *json, const char *want)
{
    struct error err = ERROR_INIT;
    AUTO_JSON json_t *got = NULL;
    AUTO_JSON json_t *expected = json_own(want);
    assert_non_null(expected);
    if (call(name, json, &got, &err) < 0)
        fail_msg("%s: %s", name, err.msg);
    if (!json_equal(got, expected))
        fail_msg("%s: %s instead of %s", name, json_text(got, JSON_SORT_KEYS), want);
}

#define VOLUME                                                                           \
    "{\"capacity_bytes\":7,\"volume_id\":\"id1\",\"volume_context\":{\"kms\":\"vault\"," \
    "\"tenant\":\"a\"},"                                                                 \
    "\"accessible_topology\":[{\"segments\":{\"topology.x/node\":\"n1\"}}]}"

static void descriptions_arrive_whole(void **state)
{
    assert_reply("DescribeVolumes",
                 "{\"name_prefix\":\"p\",\"pool\":\"fast\",\"max_entries\":2,"
                 "\"starting_token\":\"s\"}",
                 "{\"volumes\":[{\"volume_id\":\"v\",\"name\":\"n\",\"uuid\":\"u\",\"tenant\":"
                 "\"t\",\"kms\":\"k\",\"key_source\":\"client\",\"commitment\":\"c\","
                 "\"state\":\"ready\",\"fs\":\"ext4\",\"size\":9,\"open\":true,\"mounted_at\":[\"/"
                 "a\",\"/b\"],"
                 "\"recipients\":[{\"fingerprint\":\"f\",\"algorithm\":\"a\",\"label\":\"l\","
                 "\"public_key\":\"k\",\"wrapped\":\"w\"}]},"
                 "{\"volume_id\":\"w\",\"problem\":\"why\"}],"
                 "\"next_token\":\"s\",\"pool_tags\":{\"fast\":\"0a1b2c3d\"}}");
}

static void replies_say_what_the_op_said(void **state)
{
    on = true;
    assert_reply("GetPluginInfo", "{}", "{\"name\":\"csi.x\",\"vendor_version\":\"1\"}");
    assert_reply("GetPluginCapabilities", "{}",
                 "{\"capabilities\":[{\"service\":{\"type\":\"CONTROLLER_SERVICE\"}},"
                 "{\"service\":{\"type\":\"VOLUME_ACCESSIBILITY_CONSTRAINTS\"}},"
                 "{\"volume_expansion\":{\"type\":\"ONLINE\"}}]}");
    assert_reply("Probe", "{}", "{\"ready\":true}");
    assert_reply("CreateVolume", "{\"name\":\"n\",\"volume_capabilities\":[" CAP "]}",
                 "{\"volume\":" VOLUME "}");
    assert_reply("ListVolumes", "{\"max_entries\":1,\"starting_token\":\"t\"}",
                 "{\"entries\":[{\"volume\":" VOLUME "}],\"next_token\":\"t\"}");
    assert_reply("GetCapacity", "{}",
                 "{\"available_capacity\":9223372036854775807,\"minimum_volume_size\":3,\"maximum_"
                 "volume_size\":4}");
    assert_reply("ControllerGetCapabilities", "{}",
                 "{\"capabilities\":[{\"rpc\":{\"type\":\"CREATE_DELETE_VOLUME\"}},{\"rpc\":{"
                 "\"type\":\"LIST_VOLUMES\"}},"
                 "{\"rpc\":{\"type\":\"GET_CAPACITY\"}},{\"rpc\":{\"type\":\"EXPAND_VOLUME\"}},"
                 "{\"rpc\":{\"type\":\"SINGLE_NODE_MULTI_WRITER\"}}]}");
    assert_reply("ControllerExpandVolume",
                 "{\"volume_id\":\"v\",\"capacity_range\":{\"required_bytes\":9}}",
                 "{\"capacity_bytes\":9,\"node_expansion_required\":true}");
    assert_reply("NodeGetVolumeStats", "{\"volume_id\":\"v\",\"volume_path\":\"/p\"}",
                 "{\"usage\":[{\"available\":1,\"total\":2,\"used\":3,\"unit\":\"BYTES\"},"
                 "{\"available\":4,\"total\":5,\"used\":6,\"unit\":\"INODES\"}]}");
    assert_reply("NodeGetCapabilities", "{}",
                 "{\"capabilities\":[{\"rpc\":{\"type\":\"STAGE_UNSTAGE_VOLUME\"}},{\"rpc\":{"
                 "\"type\":\"GET_VOLUME_STATS\"}},"
                 "{\"rpc\":{\"type\":\"EXPAND_VOLUME\"}},{\"rpc\":{\"type\":\"SINGLE_NODE_MULTI_"
                 "WRITER\"}}]}");
    assert_reply("NodeGetInfo", "{}",
                 "{\"node_id\":\"n1\",\"max_volumes_per_node\":5,"
                 "\"accessible_topology\":{\"segments\":{\"topology.x/node\":\"n1\"}}}");
    assert_reply(
        "NodeExpandVolume",
        "{\"volume_id\":\"v\",\"volume_path\":\"/p\",\"capacity_range\":{\"required_bytes\":4}}",
        "{\"capacity_bytes\":4}");
}

static void what_is_off_or_unset_is_absent(void **state)
{
    on = false;
    assert_reply("GetPluginCapabilities", "{}", "{}");
    assert_reply("Probe", "{}", "{\"ready\":false}"); /* said, not left out */
    assert_reply("ListVolumes", "{}", "{}");
    assert_reply("GetCapacity", "{}", "{\"available_capacity\":9223372036854775807}");
    assert_reply("ControllerGetCapabilities", "{}",
                 "{\"capabilities\":[{\"rpc\":{\"type\":\"CREATE_DELETE_VOLUME\"}}]}");
    assert_reply("NodeGetCapabilities", "{}", "{}");
    assert_reply("NodeGetInfo", "{}", "{\"node_id\":\"n1\",\"max_volumes_per_node\":5}");
}

#define ASKED                                                                                  \
    "\"volume_context\":{\"c\":\"d\"},\"parameters\":{\"p\":\"q\"},\"volume_capabilities\":[{" \
    "\"mount\":{"                                                                              \
    "\"fs_type\":\"ext4\",\"mount_flags\":[\"ro\"]},\"access_mode\":{\"mode\":\"SINGLE_NODE_"  \
    "WRITER\"}},{\"block\":{},"                                                                \
    "\"access_mode\":{\"mode\":\"SINGLE_NODE_WRITER\"}}]"

static void confirmed_repeats_what_was_asked(void **state)
{
    const char *request = "{\"volume_id\":\"v\"," ASKED ",\"secrets\":{\"k\":\"never\"}}";
    validate_reply = (struct csi_validate_reply){ true, "" };
    assert_reply("ValidateVolumeCapabilities", request, "{\"confirmed\":{" ASKED "}}");
    validate_reply = (struct csi_validate_reply){ false, "one node only" };
    assert_reply("ValidateVolumeCapabilities", request, "{\"message\":\"one node only\"}");
    validate_reply = (struct csi_validate_reply){ true, "" };
    assert_reply("ValidateVolumeCapabilities",
                 "{\"volume_id\":\"v\"," ASKED ",\"mutable_parameters\":{\"a\":\"b\"}}",
                 "{\"message\":\"mutable_parameters are not supported\"}");
}

static void an_op_s_error_passes_through(void **state)
{
    struct error err = ERROR_INIT;
    json_t *got = NULL;
    assert_int_equal(call("DeleteVolume", "{\"volume_id\":\"v\"}", &got, &err), -1);
    assert_int_equal(err.code, ERR_PRECONDITION);
    assert_string_equal(err.msg, "in use");
}

/* Its caller must come back: after RESOURCE_EXHAUSTED he goes elsewhere, and nobody deletes it. */
static void a_volume_that_cannot_be_told_is_not_given_up(void **state)
{
    const struct method *m = method_called("CreateVolume");
    AUTO_JSON json_t *obj = json_own("{\"name\":\"n\",\"volume_capabilities\":[" CAP "]}");
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    unsigned int untold = 0;
    bool told = false;

    assert_int_equal(json_to_wire(m->request, obj, &sb, &err), 0);
    made = false;
    for (size_t limit = 16; !told; limit += 16) {
        struct request r = { .message = NULL };
        ProtobufCMessage *reply = NULL;

        arena_free(arena);
        arena = arena_new(limit);
        assert_non_null(arena);
        struct csi_call c = { .arena = arena };
        told = dispatch_decode(m, arena, strbuf_text(&sb), sb.len, &r, &err) == 0 &&
               m->run(&service, &c, r.decoded, &reply, &err) == 0;
        if (told || !made)
            continue;
        assert_int_equal(err.code, ERR_ABORTED);
        untold++;
    }
    assert_true(untold > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(replies_say_what_the_op_said),   TEST(descriptions_arrive_whole),
        TEST(what_is_off_or_unset_is_absent), TEST(confirmed_repeats_what_was_asked),
        TEST(an_op_s_error_passes_through),   TEST(a_volume_that_cannot_be_told_is_not_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
