/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request decoders: the first line is the method ("Node/NodeStageVolume"), the rest the
 * message. Whatever is accepted must be text within its limits, and must turn into JSON and back
 * into a message that is accepted again.
 *
 * covers: csi/validate.c csi/codec.c csi/codec_controller.c
 * csi/codec_node.c csi/codec_admin.c csi/codec_recipient.c csi/codec_describe.c
 * csi/codec_registration.c csi/dispatch.c
 * but: run_* encode_* codec_string codec_int64 (call a plugin and write its answer)
 * but: method_offered dispatch_log reply_volume_id (choose and log a call)
 */
#include "tests/fuzz/target.h"

#include "common/json.h"
#include "csi/client_json.h"
#include "csi/dispatch.h"
#include "csi/validate.h"

#define MEMORY MIB(16)

static void must_be_text(const char *text, size_t max)
{
    must(text != NULL && strlen(text) <= max && utf8_valid(text, strlen(text)));
}

static void must_be_given(const char *text, size_t max)
{
    must_be_text(text, max);
    must(text[0] != '\0');
}

static void check_map_of(const struct csi_map *m, size_t max)
{
    size_t total = 0;

    for (size_t i = 0; i < m->n; i++) {
        must_be_text(m->items[i].key, VALIDATE_TOTAL_MAX);
        must_be_text(m->items[i].value, VALIDATE_TOTAL_MAX);
        must(i == 0 || strcmp(m->items[i - 1].key, m->items[i].key) < 0);
        total += strlen(m->items[i].key) + strlen(m->items[i].value);
    }
    must(total <= max);
}

static void check_map(const struct csi_map *m)
{
    check_map_of(m, VALIDATE_TOTAL_MAX);
}

static void check_capability(const struct csi_capability *c)
{
    size_t total = 0;

    must(c->mode > CSI_MODE_UNKNOWN && c->mode <= CSI_SINGLE_NODE_MULTI_WRITER);
    must(c->type == CSI_ACCESS_BLOCK || c->type == CSI_ACCESS_MOUNT);
    must_be_text(c->fs_type, VALIDATE_STRING_MAX);
    must_be_text(c->volume_mount_group, VALIDATE_STRING_MAX);
    for (size_t i = 0; i < c->mount_flags.n; i++) {
        must_be_text(c->mount_flags.items[i], VALIDATE_TOTAL_MAX);
        total += strlen(c->mount_flags.items[i]);
    }
    must(total <= VALIDATE_TOTAL_MAX);
}

static void check_capabilities(const struct csi_capabilities *c)
{
    for (size_t i = 0; i < c->n; i++)
        check_capability(&c->items[i]);
}

static void check_topologies(const struct csi_topologies *t)
{
    for (size_t i = 0; i < t->n; i++)
        check_map(&t->items[i].segments);
}

static void check_range(uint64_t required, uint64_t limit)
{
    must(limit == 0 || limit >= required);
    must(required <= INT64_MAX && limit <= INT64_MAX);
}

static void check_create(const void *decoded)
{
    const struct csi_create_volume_request *r = decoded;

    must_be_given(r->name, VALIDATE_STRING_MAX);
    must(r->capabilities.n > 0);
    check_range(r->required_bytes, r->limit_bytes);
    check_capabilities(&r->capabilities);
    check_topologies(&r->requisite);
    check_topologies(&r->preferred);
    check_map(&r->parameters);
    check_map(&r->secrets);
    check_map(&r->mutable_parameters);
}

static void check_delete(const void *decoded)
{
    const struct csi_delete_volume_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    check_map(&r->secrets);
}

static void check_validate(const void *decoded)
{
    const struct csi_validate_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must(r->capabilities.n > 0);
    check_capabilities(&r->capabilities);
    check_map(&r->volume_context);
    check_map(&r->parameters);
    check_map(&r->mutable_parameters);
    check_map(&r->secrets);
}

static void check_list(const void *decoded)
{
    const struct csi_list_request *r = decoded;

    must(r->max_entries <= INT32_MAX);
    must_be_text(r->starting_token, VALIDATE_STRING_MAX);
}

static void check_capacity(const void *decoded)
{
    const struct csi_capacity_request *r = decoded;

    check_capabilities(&r->capabilities);
    check_map(&r->parameters);
    check_map(&r->topology.segments);
}

static void check_expand(const void *decoded)
{
    const struct csi_expand_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_text(r->volume_path, VALIDATE_PATH_MAX);
    must_be_text(r->staging_target_path, VALIDATE_PATH_MAX);
    check_range(r->required_bytes, r->limit_bytes);
    check_map(&r->secrets);
    if (r->has_capability)
        check_capability(&r->capability);
}

static void check_stage(const void *decoded)
{
    const struct csi_stage_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->staging_target_path, VALIDATE_PATH_MAX);
    check_capability(&r->capability);
    check_map(&r->publish_context);
    check_map(&r->volume_context);
    check_map(&r->secrets);
}

static void check_unstage(const void *decoded)
{
    const struct csi_unstage_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->staging_target_path, VALIDATE_PATH_MAX);
}

static void check_publish(const void *decoded)
{
    const struct csi_publish_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->target_path, VALIDATE_PATH_MAX);
    must_be_text(r->staging_target_path, VALIDATE_PATH_MAX);
    check_capability(&r->capability);
    check_map(&r->publish_context);
    check_map(&r->volume_context);
    check_map_of(&r->secrets, VALIDATE_PUBLISH_SECRETS_MAX);
}

static void check_unpublish(const void *decoded)
{
    const struct csi_unpublish_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->target_path, VALIDATE_PATH_MAX);
}

static void check_stats(const void *decoded)
{
    const struct csi_stats_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->volume_path, VALIDATE_PATH_MAX);
    must_be_text(r->staging_target_path, VALIDATE_PATH_MAX);
}

static void check_unlock(const void *decoded)
{
    const struct csi_unlock_key_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->reason, VALIDATE_STRING_MAX);
    must(r->output_pid != 0);
}

static void check_rotate(const void *decoded)
{
    const struct csi_rotate_key_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_text(r->reason, VALIDATE_STRING_MAX);
    check_map(&r->secrets);
    check_map_of(&r->new_secrets, VALIDATE_NEW_SECRETS_MAX);
}

static void check_add_recipient(const void *decoded)
{
    const struct csi_add_recipient_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->public_key, VALIDATE_KEY_MAX);
    must_be_given(r->algorithm, VALIDATE_STRING_MAX);
    must_be_text(r->label, VALIDATE_STRING_MAX);
    must_be_text(r->reason, VALIDATE_STRING_MAX);
    must_be_text(r->wrapped, VALIDATE_KEY_MAX);
    check_map(&r->secrets);
}

static void check_remove_recipient(const void *decoded)
{
    const struct csi_remove_recipient_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    must_be_given(r->fingerprint, VALIDATE_STRING_MAX);
    must_be_text(r->reason, VALIDATE_STRING_MAX);
    check_map(&r->secrets);
    check_map_of(&r->new_secrets, VALIDATE_NEW_SECRETS_MAX);
}

static void check_list_recipients(const void *decoded)
{
    const struct csi_list_recipients_request *r = decoded;

    must_be_given(r->volume_id, VALIDATE_STRING_MAX);
    check_map(&r->secrets);
}

static void check_describe(const void *decoded)
{
    const struct csi_describe_request *r = decoded;

    must_be_text(r->name, VALIDATE_STRING_MAX);
    must_be_text(r->name_prefix, VALIDATE_STRING_MAX);
    must_be_text(r->starting_token, VALIDATE_STRING_MAX);
    must_be_text(r->pool, VALIDATE_STRING_MAX);
}

static void check_registration(const void *decoded)
{
    const struct csi_registration_status *r = decoded;

    must_be_text(r->error, VALIDATE_TOTAL_MAX);
}

static void check_nothing(const void *decoded)
{
    must(decoded != NULL);
}

/* One row for each decoder; a method whose decoder has none is a defect of this file. */
static const struct {
    codec_decode *decode;
    void (*check)(const void *decoded);
} checks[] = {
    { decode_create_volume, check_create },
    { decode_delete_volume, check_delete },
    { decode_validate, check_validate },
    { decode_list_volumes, check_list },
    { decode_get_capacity, check_capacity },
    { decode_controller_expand, check_expand },
    { decode_stage, check_stage },
    { decode_unstage, check_unstage },
    { decode_publish, check_publish },
    { decode_unpublish, check_unpublish },
    { decode_stats, check_stats },
    { decode_node_expand, check_expand },
    { decode_unlock_key, check_unlock },
    { decode_rotate_key, check_rotate },
    { decode_add_recipient, check_add_recipient },
    { decode_remove_recipient, check_remove_recipient },
    { decode_list_recipients, check_list_recipients },
    { decode_describe, check_describe },
    { decode_reconcile, check_nothing },
    { decode_registration_status, check_registration },
};

static size_t row_of(codec_decode *decode)
{
    size_t i = 0;

    while (i < ARRAY_SIZE(checks) && checks[i].decode != decode)
        i++;
    must(i < ARRAY_SIZE(checks));
    return i;
}

static void check_decoded(const struct method *m, const struct request *r)
{
    if (m->decode != NULL)
        checks[row_of(m->decode)].check(r->decoded);
}

/* Whatever the input: a method without a row is seen by every run. */
static void start(void)
{
    static bool started;

    for (size_t i = 0; i < csi_methods_len && !started; i++)
        if (csi_methods[i].decode != NULL)
            (void)row_of(csi_methods[i].decode);
    started = true;
}

/* JSON writes unset map keys and values out, so a long message may have more fields than before. */
static void check_json(const struct method *m, const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *obj = NULL;
    AUTO_STRBUF struct strbuf again = STRBUF_INIT(MEMORY);
    struct error err = ERROR_INIT;

    must(wire_to_json(m->request, data, size, &obj, &err) == 0);
    must(json_to_wire(m->request, obj, &again, &err) == 0);
    must(validate_wire(m->request, strbuf_text(&again), again.len, &err) == 0 || size > 8192);
}

/* By the last two parts of its path; NULL: none, or one that this version has no message for. */
static const struct method *find(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < csi_methods_len; i++) {
        const char *name = strrchr(csi_methods[i].path, '.') + 1;
        if (strlen(name) == len && memcmp(name, data, len) == 0)
            return csi_methods[i].request != NULL ? &csi_methods[i] : NULL;
    }
    return NULL;
}

static void run(const struct method *m, const uint8_t *data, size_t size)
{
    struct arena *a = arena_new(MEMORY);
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;

    must(a != NULL);
    if (dispatch_decode(m, a, data, size, &r, &err) == 0) {
        check_decoded(m, &r);
        check_json(m, data, size);
    } else {
        must(r.message == NULL && r.decoded == NULL);
        must_be_sentence(&err);
    }
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    const struct method *m = end != NULL ? find(data, (size_t)(end - data)) : NULL;

    start();
    if (m != NULL)
        run(m, end + 1, size - (size_t)(end + 1 - data));
    return 0;
}
