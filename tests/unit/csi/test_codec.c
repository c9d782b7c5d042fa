/* SPDX-License-Identifier: Apache-2.0 */
/* From a request's JSON over its bytes to the struct an op gets. */
#include "tests/unit/csi/codec.h"

#include "csi/protowire.h"

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

static const struct {
    const char *method, *json, *text;
} missing[] = {
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
    { "ValidateVolumeCapabilities", "{\"volume_capabilities\":[" CAP "]}", "volume_id is missing" },
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

static void required_fields_are_named(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(missing); i++)
        assert_missing(missing[i].method, missing[i].json, missing[i].text);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
