/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/validate.h"

#include "common/parse.h"
#include "csi/protowire.h"

struct limit {
    const char *field;
    size_t each; /* most bytes of one value */
    bool total;  /* of all values of one message together */
    bool name;   /* no control characters but tab, line feed and carriage return */
};

/* Exceptions from "a string has at most 128 bytes", by field name: a name is used for one
 * thing only. */
static const struct limit limits[] = {
    { "name", VALIDATE_STRING_MAX, false, true },
    { "staging_target_path", VALIDATE_PATH_MAX, false, false },
    { "target_path", VALIDATE_PATH_MAX, false, false },
    { "volume_path", VALIDATE_PATH_MAX, false, false },
    { "node_id", VALIDATE_NODE_ID_MAX, false, false },
    { "error", VALIDATE_TOTAL_MAX, false, false }, /* kubelet's, whole */
    { "public_key", VALIDATE_KEY_MAX, false, false },
    { "wrapped", VALIDATE_KEY_MAX, false, false },
    { "mount_flags", VALIDATE_TOTAL_MAX, true, false },
};
static const struct limit plain = { NULL, VALIDATE_STRING_MAX, false, false };
static const struct limit in_map = { NULL, VALIDATE_TOTAL_MAX, false, false };

struct walk {
    size_t fields, unknown;
    struct error *err;
};

static const struct limit *limit_of(const ProtobufCMessageDescriptor *desc,
                                    const ProtobufCFieldDescriptor *field)
{
    if (descriptor_is_map_entry(desc))
        return &in_map; /* the map's own total counts */
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
        if (strcmp(limits[i].field, field->name) == 0)
            return &limits[i];
    return &plain;
}

/* Maps that hold more than VALIDATE_TOTAL_MAX; message NULL: in any. */
static const struct map_row {
    const char *message, *map;
    size_t total;
} larger_maps[] = {
    { NULL, "new_secrets", VALIDATE_NEW_SECRETS_MAX },
    { "NodePublishVolumeRequest", "secrets", VALIDATE_PUBLISH_SECRETS_MAX },
};

/* Of a map's keys and values together. */
static size_t total_of(const ProtobufCMessageDescriptor *desc, const ProtobufCFieldDescriptor *map)
{
    for (size_t i = 0; i < ARRAY_SIZE(larger_maps); i++) {
        const struct map_row *row = &larger_maps[i];

        if (strcmp(row->map, map->name) == 0 &&
            (row->message == NULL || strcmp(row->message, desc->short_name) == 0))
            return row->total;
    }
    return VALIDATE_TOTAL_MAX;
}

bool descriptor_is_map_entry(const ProtobufCMessageDescriptor *desc)
{
    if (desc->n_fields != 2)
        return false;
    const ProtobufCFieldDescriptor *key = &desc->fields[0], *value = &desc->fields[1];
    return key->id == 1 && value->id == 2 && strcmp(key->name, "key") == 0 &&
           strcmp(value->name, "value") == 0 && key->type == PROTOBUF_C_TYPE_STRING &&
           value->type == PROTOBUF_C_TYPE_STRING;
}

/* U+0000..0008, 000B, 000C, 000E..001F and 007F..009F (in UTF-8: C2 80..9F); the text is valid
 * UTF-8. */
static bool has_control(const uint8_t *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] < 0x20 && s[i] != '\t' && s[i] != '\n' && s[i] != '\r')
            return true;
        if (s[i] == 0x7f || (s[i] == 0xc2 && i + 1 < len && s[i + 1] < 0xa0))
            return true;
    }
    return false;
}

static int check_string(const char *name, const struct limit *limit,
                        const struct protowire_field *f, struct error *err)
{
    if (f->len > limit->each)
        return error_set(err, ERR_INVALID, "%s is longer than %zu bytes", name, limit->each);
    if (f->len == 0)
        return 0;
    if (memchr(f->bytes, '\0', f->len) != NULL)
        return error_set(err, ERR_INVALID, "%s contains a NUL byte", name);
    if (!utf8_valid((const char *)f->bytes, f->len))
        return error_set(err, ERR_INVALID, "%s is not valid UTF-8", name);
    if (limit->name && has_control(f->bytes, f->len))
        return error_set(err, ERR_INVALID, "%s contains a control character", name);
    return 0;
}

/* The wire type that a field must have; a packed list of numbers comes as bytes. */
static bool type_fits(const ProtobufCFieldDescriptor *field, enum protowire_type type)
{
    if (type == PROTOWIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED)
        return true;
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return type == PROTOWIRE_BYTES;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return type == PROTOWIRE_32BIT;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return type == PROTOWIRE_64BIT;
    default:
        return type == PROTOWIRE_VARINT;
    }
}

#define TOTALS 8

/* Bytes used so far by a message's maps and mount_flags: no CSI message has more than four of them.
 */
struct totals {
    struct {
        uint32_t number;
        size_t used;
    } items[TOTALS];
    size_t n;
};

static int add_total(struct totals *t, const ProtobufCFieldDescriptor *field, size_t max,
                     size_t len, struct error *err)
{
    size_t i = 0;
    while (i < t->n && t->items[i].number != field->id)
        i++;
    if (i == TOTALS)
        return error_set(err, ERR_INTERNAL, "%s: too many limited fields in one message",
                         field->name);
    if (i == t->n) {
        t->items[i].number = field->id;
        t->items[i].used = 0;
        t->n++;
    }
    t->items[i].used += len;
    if (t->items[i].used > max)
        return error_set(err, ERR_INVALID, "%s holds more than %zu bytes", field->name, max);
    return 0;
}

static int malformed(const ProtobufCMessageDescriptor *desc, struct error *err)
{
    return error_set(err, ERR_INVALID, "the request is not a well-formed %s", desc->name);
}

/* Bytes of key and value in one map entry; SIZE_MAX when malformed (the walk says so again). */
static size_t entry_size(const struct protowire_field *f)
{
    struct protowire_reader r = protowire_reader_of(f->bytes, f->len);
    struct protowire_field part;
    size_t size = 0;
    int more;
    while ((more = protowire_next(&r, &part)) > 0)
        size += part.len;
    return more < 0 ? SIZE_MAX : size;
}

static int walk_message(struct walk *w, const ProtobufCMessageDescriptor *desc, const void *data,
                        size_t len, unsigned depth, const char *map_name);

static int walk_field(struct walk *w, const ProtobufCMessageDescriptor *desc,
                      const ProtobufCFieldDescriptor *field, const struct protowire_field *f,
                      unsigned depth, const char *map_name, struct totals *totals)
{
    if (!type_fits(field, f->type))
        return malformed(desc, w->err);
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const ProtobufCMessageDescriptor *sub = field->descriptor;
        bool map = descriptor_is_map_entry(sub);
        size_t size = map ? entry_size(f) : 0;
        if (size == SIZE_MAX)
            return malformed(desc, w->err);
        if (map && add_total(totals, field, total_of(desc, field), size, w->err) < 0)
            return -1;
        return walk_message(w, sub, f->bytes, f->len, depth + 1, map ? field->name : NULL);
    }
    if (field->type != PROTOBUF_C_TYPE_STRING)
        return 0;
    const struct limit *limit = limit_of(desc, field);
    if (limit->total && add_total(totals, field, limit->each, f->len, w->err) < 0)
        return -1;
    return check_string(map_name != NULL ? map_name : field->name, limit, f, w->err);
}

static int walk_message(struct walk *w, const ProtobufCMessageDescriptor *desc, const void *data,
                        size_t len, unsigned depth, const char *map_name)
{
    if (depth > VALIDATE_DEPTH_MAX)
        return error_set(w->err, ERR_INVALID, "the request is nested more than %u levels deep",
                         VALIDATE_DEPTH_MAX);
    struct totals totals = { .n = 0 };
    struct protowire_reader r = protowire_reader_of(data, len);
    struct protowire_field f;
    int more;
    while ((more = protowire_next(&r, &f)) > 0) {
        if (++w->fields > VALIDATE_FIELDS_MAX)
            return error_set(w->err, ERR_INVALID, "the request has more than %u fields",
                             VALIDATE_FIELDS_MAX);
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(desc, f.number);
        if (field == NULL) { /* a newer client's: dropped */
            if (++w->unknown > VALIDATE_UNKNOWN_MAX)
                return error_set(w->err, ERR_INVALID, "the request has more than %u unknown fields",
                                 VALIDATE_UNKNOWN_MAX);
            continue;
        }
        if (walk_field(w, desc, field, &f, depth, map_name, &totals) < 0)
            return -1;
    }
    return more < 0 ? malformed(desc, w->err) : 0;
}

int validate_wire(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
                  struct error *err)
{
    struct walk w = { .fields = 0, .unknown = 0, .err = err };
    return walk_message(&w, desc, data, len, 0, NULL);
}
