/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's JSON over its bytes to the struct an op gets, and from what an op returned to
 * the reply's JSON. */
#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/json.h"
#include "csi/client_json.h"
#include "csi/dispatch.h"
#include "csi/protowire.h"

static struct arena *arena;

static const struct method *method_called(const char *name)
{
    for (size_t i = 0; i < csi_methods_len; i++)
        if (strcmp(strrchr(csi_methods[i].path, '/') + 1, name) == 0)
            return &csi_methods[i];
    fail_msg("no method %s", name);
    return NULL;
}

static int decode_bytes(const struct method *m, const struct strbuf *sb, struct request *r,
                        struct error *err)
{
    char *copy = arena_alloc(arena, sb->len + 1);
    assert_non_null(copy);
    memcpy(copy, strbuf_text(sb), sb->len);
    return dispatch_decode(m, arena, copy, sb->len, r, err);
}

static int decode(const char *name, const char *json, struct request *r, struct error *err)
{
    const struct method *m = method_called(name);
    AUTO_JSON json_t *obj = json_own(json);
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1 << 20);
    assert_non_null(obj);
    if (json_to_wire(m->request, obj, &sb, err) < 0)
        fail_msg("%s", err->msg);
    return decode_bytes(m, &sb, r, err);
}

static const void *decoded(const char *name, const char *json)
{
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;
    if (decode(name, json, &r, &err) < 0)
        fail_msg("%s", err.msg);
    return r.decoded;
}

static void assert_missing(const char *name, const char *json, const char *text)
{
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;
    assert_int_equal(decode(name, json, &r, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_string_equal(err.msg, text);
}

#define CAP "{\"mount\":{},\"access_mode\":{\"mode\":1}}"

static void required_fields_are_named(void **state)
{
    static const struct {
        const char *method, *json, *text;
    } cases[] = {
        { "CreateVolume", "{\"volume_capabilities\":[" CAP "]}", "name is missing" },
        { "CreateVolume", "{\"name\":\"n\"}", "volume_capabilities is missing" },
        { "CreateVolume", "{\"name\":\"n\",\"volume_capabilities\":[{}]}",
          "volume_capabilities[0].access_mode is missing" },
        { "CreateVolume",
          "{\"name\":\"n\",\"volume_capabilities\":[" CAP ",{\"access_mode\":{\"mode\":1}}]}",
          "volume_capabilities[1].access_type is missing: block or mount" },
        { "CreateVolume",
          "{\"name\":\"n\",\"volume_capabilities\":[{\"block\":{},\"access_mode\":{\"mode\":8}}]}",
          "volume_capabilities[0].access_mode 8 is not known" },
        { "CreateVolume",
          "{\"name\":\"n\",\"volume_capabilities\":[{\"block\":{},\"access_mode\":{\"mode\":-1}}]}",
          "volume_capabilities[0].access_mode -1 is not known" },
        { "CreateVolume",
          "{\"name\":\"n\",\"volume_capabilities\":[" CAP
          "],\"capacity_range\":{\"required_bytes\":-1}}",
          "capacity_range is negative" },
        { "CreateVolume",
          "{\"name\":\"n\",\"volume_capabilities\":[" CAP
          "],\"capacity_range\":{\"required_bytes\":2,\"limit_bytes\":1}}",
          "capacity_range.limit_bytes is less than required_bytes" },
        { "DeleteVolume", "{}", "volume_id is missing" },
        { "ValidateVolumeCapabilities", "{\"volume_capabilities\":[" CAP "]}",
          "volume_id is missing" },
        { "ValidateVolumeCapabilities", "{\"volume_id\":\"v\"}", "volume_capabilities is missing" },
        { "ListVolumes", "{\"max_entries\":-1}", "max_entries is negative" },
        { "ControllerExpandVolume", "{\"capacity_range\":{}}", "volume_id is missing" },
        { "ControllerExpandVolume", "{\"volume_id\":\"v\"}", "capacity_range is missing" },
        { "NodeStageVolume", "{}", "volume_id is missing" },
        { "NodeStageVolume", "{\"volume_id\":\"v\"}", "staging_target_path is missing" },
        { "NodeStageVolume", "{\"volume_id\":\"v\",\"staging_target_path\":\"/s\"}",
          "volume_capability is missing" },
        { "NodeUnstageVolume", "{\"staging_target_path\":\"/s\"}", "volume_id is missing" },
        { "NodeUnstageVolume", "{\"volume_id\":\"v\"}", "staging_target_path is missing" },
        { "NodePublishVolume", "{\"target_path\":\"/t\",\"volume_capability\":" CAP "}",
          "volume_id is missing" },
        { "NodePublishVolume", "{\"volume_id\":\"v\",\"volume_capability\":" CAP "}",
          "target_path is missing" },
        { "NodePublishVolume", "{\"volume_id\":\"v\",\"target_path\":\"/t\"}",
          "volume_capability is missing" },
        { "NodeUnpublishVolume", "{\"target_path\":\"/t\"}", "volume_id is missing" },
        { "NodeUnpublishVolume", "{\"volume_id\":\"v\"}", "target_path is missing" },
        { "NodeGetVolumeStats", "{\"volume_path\":\"/t\"}", "volume_id is missing" },
        { "NodeGetVolumeStats", "{\"volume_id\":\"v\"}", "volume_path is missing" },
        { "NodeExpandVolume", "{\"volume_path\":\"/t\"}", "volume_id is missing" },
        { "NodeExpandVolume", "{\"volume_id\":\"v\"}", "volume_path is missing" },
        { "UnlockKey", "{\"output_pid\":1,\"reason\":\"r\"}", "volume_id is missing" },
        { "UnlockKey", "{\"volume_id\":\"v\",\"output_pid\":1}", "reason is missing" },
        { "UnlockKey", "{\"volume_id\":\"v\",\"reason\":\"r\"}", "output_pid is missing" },
        { "RotateKey", "{\"reason\":\"r\"}", "volume_id is missing" },
        { "AddRecipient", "{\"public_key\":\"a\",\"algorithm\":\"b\"}", "volume_id is missing" },
        { "AddRecipient", "{\"volume_id\":\"v\",\"algorithm\":\"b\"}", "public_key is missing" },
        { "AddRecipient", "{\"volume_id\":\"v\",\"public_key\":\"a\"}", "algorithm is missing" },
        { "RemoveRecipient", "{\"fingerprint\":\"f\"}", "volume_id is missing" },
        { "RemoveRecipient", "{\"volume_id\":\"v\"}", "fingerprint is missing" },
        { "ListRecipients", "{}", "volume_id is missing" },
        { "DescribeVolumes", "{\"name\":\"n\",\"name_prefix\":\"p\"}",
          "name goes with neither name_prefix nor starting_token: it is of one volume" },
        { "DescribeVolumes", "{\"name\":\"n\",\"starting_token\":\"t\"}",
          "name goes with neither name_prefix nor starting_token: it is of one volume" },
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_missing(cases[i].method, cases[i].json, cases[i].text);
}

static void create_volume_arrives_whole(void **state)
{
    const struct csi_create_volume_request *r =
        decoded("CreateVolume",
                "{\"name\":\"pvc-1\",\"capacity_range\":{\"required_bytes\":5,\"limit_bytes\":9},"
                "\"volume_capabilities\":["
                "{\"mount\":{\"fs_type\":\"ext4\",\"mount_flags\":[\"ro\",\"noatime\"],\"volume_"
                "mount_group\":\"12\"},"
                "\"access_mode\":{\"mode\":7}},{\"block\":{},\"access_mode\":{\"mode\":2}}],"
                "\"parameters\":{\"pool\":\"p\",\"kms\":\"k\"},\"secrets\":{\"s\":\"t\"},\"mutable_"
                "parameters\":{\"m\":\"n\"},"
                "\"volume_content_source\":{\"volume\":{\"volume_id\":\"x\"}},\"accessibility_"
                "requirements\":{"
                "\"requisite\":[{\"segments\":{\"a\":\"1\"}}],\"preferred\":[{\"segments\":{\"b\":"
                "\"2\"}},{}]}}");
    assert_string_equal(r->name, "pvc-1");
    assert_true(r->has_range && r->required_bytes == 5 && r->limit_bytes == 9 && r->has_source);
    assert_int_equal(r->capabilities.n, 2);
    const struct csi_capability *c = &r->capabilities.items[0];
    assert_true(c->type == CSI_ACCESS_MOUNT && c->mode == CSI_SINGLE_NODE_MULTI_WRITER);
    assert_string_equal(c->fs_type, "ext4");
    assert_string_equal(c->volume_mount_group, "12");
    assert_int_equal(c->mount_flags.n, 2);
    assert_string_equal(c->mount_flags.items[1], "noatime");
    assert_true(c[1].type == CSI_ACCESS_BLOCK && c[1].mode == CSI_SINGLE_NODE_READER_ONLY);
    assert_string_equal(c[1].fs_type, "");
    assert_int_equal(r->parameters.n, 2);
    assert_string_equal(r->parameters.items[0].key, "kms"); /* sorted */
    assert_string_equal(r->parameters.items[1].value, "p");
    assert_string_equal(r->secrets.items[0].value, "t");
    assert_string_equal(r->mutable_parameters.items[0].key, "m");
    assert_true(r->has_topology);
    assert_int_equal(r->requisite.n, 1);
    assert_int_equal(r->preferred.n, 2);
    assert_string_equal(r->preferred.items[0].segments.items[0].value, "2");
    assert_int_equal(r->preferred.items[1].segments.n, 0);
}

/* What a user's device lends a key by, and brings another one by. */
static void a_devices_secrets_arrive(void **state)
{
    const struct csi_rotate_key_request *rotate =
        decoded("RotateKey", "{\"volume_id\":\"v\",\"secrets\":{\"b\":\"2\",\"a\":\"1\"},"
                             "\"new_secrets\":{\"c\":\"3\"}}");
    assert_int_equal(rotate->secrets.n, 2);
    assert_string_equal(rotate->secrets.items[1].value, "2");
    assert_int_equal(rotate->new_secrets.n, 1);
    assert_string_equal(rotate->new_secrets.items[0].key, "c");
    assert_string_equal(rotate->reason, "");
    const struct csi_remove_recipient_request *remove =
        decoded("RemoveRecipient", "{\"volume_id\":\"v\",\"fingerprint\":\"f\",\"secrets\":"
                                   "{\"a\":\"1\"},\"new_secrets\":{\"c\":\"3\",\"d\":\"\"}}");
    assert_string_equal(remove->fingerprint, "f");
    assert_string_equal(remove->secrets.items[0].value, "1");
    assert_int_equal(remove->new_secrets.n, 2);
    const struct csi_add_recipient_request *add =
        decoded("AddRecipient", "{\"volume_id\":\"v\",\"public_key\":\"k\",\"algorithm\":\"x\","
                                "\"wrapped\":\"w\",\"secrets\":{\"a\":\"1\"}}");
    assert_string_equal(add->wrapped, "w");
    assert_string_equal(add->secrets.items[0].key, "a");
    const struct csi_list_recipients_request *list =
        decoded("ListRecipients", "{\"volume_id\":\"v\",\"secrets\":{\"a\":\"1\"}}");
    assert_int_equal(list->secrets.n, 1);
    list = decoded("ListRecipients", "{\"volume_id\":\"v\"}");
    assert_int_equal(list->secrets.n, 0);
}

static void an_empty_range_is_still_a_range(void **state)
{
    const struct csi_expand_request *r =
        decoded("ControllerExpandVolume", "{\"volume_id\":\"v\",\"capacity_range\":{}}");
    assert_true(r->has_range && r->required_bytes == 0 && !r->has_capability);
    assert_string_equal(r->staging_target_path, "");
    r = decoded("NodeExpandVolume", "{\"volume_id\":\"v\",\"volume_path\":\"/p\"}");
    assert_false(r->has_range);
}

static void publish_may_come_without_staging_path(void **state)
{
    const struct csi_publish_request *r =
        decoded("NodePublishVolume",
                "{\"volume_id\":\"v\",\"target_path\":\"some/path\",\"volume_capability\":" CAP
                ",\"readonly\":true}");
    assert_string_equal(r->staging_target_path, "");
    assert_string_equal(r->target_path,
                        "some/path"); /* whether it is absolute is the op's business */
    assert_true(r->readonly);
}

static void put_entry(struct strbuf *sb, const char *key, const char *value)
{
    AUTO_STRBUF struct strbuf entry = STRBUF_INIT(1024);
    if (key != NULL)
        protowire_put_bytes(&entry, 1, key, strlen(key));
    if (value != NULL)
        protowire_put_bytes(&entry, 2, value, strlen(value));
    protowire_put_bytes(sb, 2, strbuf_text(&entry), entry.len);
}

static void the_last_duplicate_of_a_map_key_wins(void **state)
{
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(4096);
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;
    protowire_put_bytes(&sb, 1, "v", 1);
    put_entry(&sb, "b", "old");
    put_entry(&sb, "a", "1");
    put_entry(&sb, "b", "new");
    put_entry(&sb, NULL, "no key");
    put_entry(&sb, "c", NULL);
    put_entry(&sb, "b", "newest");
    assert_int_equal(decode_bytes(method_called("DeleteVolume"), &sb, &r, &err), 0);
    const struct csi_map *m = &((const struct csi_delete_volume_request *)r.decoded)->secrets;
    static const char *const want[][2] = {
        { "", "no key" }, { "a", "1" }, { "b", "newest" }, { "c", "" }
    };
    assert_int_equal(m->n, ARRAY_SIZE(want));
    for (size_t i = 0; i < m->n; i++) {
        assert_string_equal(m->items[i].key, want[i][0]);
        assert_string_equal(m->items[i].value, want[i][1]);
    }
}

static void a_refused_request_keeps_its_ids_for_the_log(void **state)
{
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;
    assert_int_equal(decode("NodeStageVolume", "{\"volume_id\":\"v1\"}", &r, &err), -1);
    assert_string_equal(r.volume_id, "v1");
    assert_null(r.decoded);
}

static void one_call_has_a_memory_limit(void **state)
{
    struct arena *small = arena_new(2048);
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(65536);
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;
    protowire_put_bytes(&sb, 1, "v", 1);
    for (int i = 0; i < 1000; i++)
        put_entry(&sb, NULL, NULL);
    assert_int_equal(
        dispatch_decode(method_called("DeleteVolume"), small, strbuf_text(&sb), sb.len, &r, &err),
        -1);
    assert_int_equal(err.code, ERR_EXHAUSTED);
    arena_free(small);
}

/* ---- replies ---- */

static const struct csi_pair pair = { "topology.x/node", "n1" };
static const struct csi_topology here = { .segments = { &pair, 1 } };
static const struct csi_pair context[] = { { "kms", "vault" }, { "tenant", "a" } };
static const struct csi_volume volume = { 7, "id1", { context, 2 }, { &here, 1 } };
static struct csi_validate_reply validate_reply;
static bool on;

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

static int set_up(void **state)
{
    arena = arena_new(MIB(1));
    return arena == NULL;
}

static int tear_down(void **state)
{
    arena_free(arena);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(required_fields_are_named),
        TEST(create_volume_arrives_whole),
        TEST(a_devices_secrets_arrive),
        TEST(an_empty_range_is_still_a_range),
        TEST(publish_may_come_without_staging_path),
        TEST(the_last_duplicate_of_a_map_key_wins),
        TEST(a_refused_request_keeps_its_ids_for_the_log),
        TEST(one_call_has_a_memory_limit),
        TEST(replies_say_what_the_op_said),
        TEST(descriptions_arrive_whole),
        TEST(what_is_off_or_unset_is_absent),
        TEST(confirmed_repeats_what_was_asked),
        TEST(an_op_s_error_passes_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
