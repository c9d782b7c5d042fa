/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What csi-call and cofferctl make of JSON and of replies: the first line is a message's name
 * ("csi.v1.ListVolumesResponse"), then JSON when it starts with '{', else the message's bytes. What
 * is accepted means the same after a round trip.
 *
 * covers: csi/client_json.c
 */
#include "tests/fuzz/target.h"

#include "common/json.h"
#include "csi/client_json.h"

#include "coffer_admin.pb-c.h"
#include "csi.pb-c.h"

#define MEMORY MIB(4)

static const ProtobufCMessageDescriptor *const messages[] = {
    &csi__v1__create_volume_request__descriptor,
    &csi__v1__create_volume_response__descriptor,
    &csi__v1__list_volumes_request__descriptor,
    &csi__v1__list_volumes_response__descriptor,
    &csi__v1__get_capacity_response__descriptor,
    &csi__v1__validate_volume_capabilities_response__descriptor,
    &csi__v1__probe_response__descriptor,
    &csi__v1__node_stage_volume_request__descriptor,
    &csi__v1__node_publish_volume_request__descriptor,
    &csi__v1__node_get_info_response__descriptor,
    &csi__v1__node_get_volume_stats_response__descriptor,
    &csi__v1__get_plugin_capabilities_response__descriptor,
    &coffer__v1__unlock_key_request__descriptor,
};

static const ProtobufCMessageDescriptor *find(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
        if (strlen(messages[i]->name) == len && memcmp(messages[i]->name, data, len) == 0)
            return messages[i];
    return NULL;
}

/* Bytes -> JSON -> bytes -> JSON: both objects are equal. */
static void round_trip(const ProtobufCMessageDescriptor *desc, const void *data, size_t size)
{
    AUTO_JSON json_t *obj = NULL, *again = NULL;
    AUTO_STRBUF struct strbuf bytes = STRBUF_INIT(MEMORY);
    struct error err = ERROR_INIT;

    if (wire_to_json(desc, data, size, &obj, &err) < 0) {
        must(obj == NULL);
        must_be_sentence(&err);
        return;
    }
    must(json_to_wire(desc, obj, &bytes, &err) == 0);
    must(wire_to_json(desc, strbuf_text(&bytes), bytes.len, &again, &err) == 0);
    must(json_equal(obj, again) == 1);
}

static void from_json(const ProtobufCMessageDescriptor *desc, const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *obj = NULL;
    AUTO_STRBUF struct strbuf bytes = STRBUF_INIT(MEMORY);
    struct error err = ERROR_INIT;

    if (json_parse((const char *)data, size, "request", &obj, &err) < 0 ||
        json_to_wire(desc, obj, &bytes, &err) < 0) {
        must_be_sentence(&err);
        return;
    }
    round_trip(desc, strbuf_text(&bytes), bytes.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    const ProtobufCMessageDescriptor *desc = end != NULL ? find(data, (size_t)(end - data)) : NULL;

    if (desc == NULL)
        return 0;
    size -= (size_t)(end + 1 - data);
    data = end + 1;
    if (size > 0 && data[0] == '{')
        from_json(desc, data, size);
    else
        round_trip(desc, data, size);
    return 0;
}
