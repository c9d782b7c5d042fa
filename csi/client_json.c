/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "csi/client_json.h"

#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"
#include "csi/validate.h"
#include "csi/protowire.h"

#include <errno.h>
#include <inttypes.h>

#define DEPTH_MAX   16u
#define MESSAGE_MAX MIB(16)

static bool is_wrapper(const ProtobufCMessageDescriptor *desc)
{
    return desc->n_fields == 1 && strncmp(desc->name, "google.protobuf.", 16) == 0 &&
           strcmp(desc->fields[0].name, "value") == 0;
}

/* ---- JSON to bytes ---- */

/* "volume_id" is also called "volumeId". */
static bool is_camel_of(const char *camel, const char *name)
{
    for (; *name != '\0'; name++, camel++) {
        char want = *name;
        if (want == '_' && name[1] >= 'a' && name[1] <= 'z')
            want = (char)(*++name - 'a' + 'A');
        if (*camel != want)
            return false;
    }
    return *camel == '\0';
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc,
                                                  const char *key)
{
    for (unsigned i = 0; i < desc->n_fields; i++)
        if (strcmp(desc->fields[i].name, key) == 0 || is_camel_of(key, desc->fields[i].name))
            return &desc->fields[i];
    return NULL;
}

static int wrong_type(const ProtobufCFieldDescriptor *f, const char *want, struct error *err)
{
    return error_set(err, ERR_INVALID, "field '%s' must be %s", f->name, want);
}

static int parse_i64(const char *text, int64_t *ret)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == ' ' || *text == '+')
        return -1;
    *ret = value;
    return 0;
}

/* The 64 bits that go on the wire: signed numbers in two's complement. */
static int number_bits(const ProtobufCFieldDescriptor *f, json_t *v, uint64_t *ret,
                       struct error *err)
{
    bool is_unsigned = f->type == PROTOBUF_C_TYPE_UINT64 || f->type == PROTOBUF_C_TYPE_UINT32;
    int64_t value;
    if (json_is_string(v) && is_unsigned && parse_u64(json_string_value(v), ret) == 0)
        return 0;
    if (json_is_integer(v))
        value = json_integer_value(v);
    else if (!json_is_string(v) || parse_i64(json_string_value(v), &value) < 0)
        return wrong_type(f, "a number", err);
    if (is_unsigned && value < 0)
        return wrong_type(f, "a number that is not negative", err);
    *ret = (uint64_t)value;
    return 0;
}

static int enum_bits(const ProtobufCFieldDescriptor *f, json_t *v, uint64_t *ret, struct error *err)
{
    if (json_is_integer(v)) {
        *ret = (uint64_t)json_integer_value(v);
        return 0;
    }
    if (!json_is_string(v))
        return wrong_type(f, "a name or a number", err);
    const ProtobufCEnumValue *e =
        protobuf_c_enum_descriptor_get_value_by_name(f->descriptor, json_string_value(v));
    if (e == NULL)
        return error_set(err, ERR_INVALID, "field '%s': '%s' is not one of its names", f->name,
                         json_string_value(v));
    *ret = (uint64_t)(int64_t)e->value;
    return 0;
}

static int put_object(const ProtobufCMessageDescriptor *desc, json_t *obj, unsigned depth,
                      struct strbuf *sb, struct error *err);
static int put_value(const ProtobufCFieldDescriptor *f, json_t *v, unsigned depth,
                     struct strbuf *sb, struct error *err);

static int put_message(const ProtobufCFieldDescriptor *f, json_t *v, unsigned depth,
                       struct strbuf *sb, struct error *err)
{
    AUTO_STRBUF struct strbuf inner = STRBUF_WIPED_INIT(MESSAGE_MAX); /* perhaps a session */
    const ProtobufCMessageDescriptor *desc = f->descriptor;
    if (is_wrapper(desc)) {
        if (put_value(&desc->fields[0], v, depth, &inner, err) < 0)
            return -1;
    } else if (!json_is_object(v)) {
        return wrong_type(f, "an object", err);
    } else if (put_object(desc, v, depth + 1, &inner, err) < 0) {
        return -1;
    }
    if (strbuf_check(&inner, f->name, err) < 0)
        return -1;
    protowire_put_bytes(sb, f->id, strbuf_text(&inner), inner.len);
    return 0;
}

static int put_value(const ProtobufCFieldDescriptor *f, json_t *v, unsigned depth,
                     struct strbuf *sb, struct error *err)
{
    uint64_t bits = 0;
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        if (!json_is_string(v))
            return wrong_type(f, "a string", err);
        protowire_put_bytes(sb, f->id, json_string_value(v), json_string_length(v));
        return 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        return put_message(f, v, depth, sb, err);
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(v))
            return wrong_type(f, "true or false", err);
        bits = json_is_true(v);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        if (enum_bits(f, v, &bits, err) < 0)
            return -1;
        break;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
        if (number_bits(f, v, &bits, err) < 0)
            return -1;
        break;
    default:
        return error_set(err, ERR_UNIMPLEMENTED, "field '%s' has a type that CSI doesn't use",
                         f->name);
    }
    protowire_put_varint(sb, f->id, bits);
    return 0;
}

static int put_map(const ProtobufCFieldDescriptor *f, json_t *obj, struct strbuf *sb,
                   struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (obj, key, value) {
        AUTO_STRBUF struct strbuf entry = STRBUF_WIPED_INIT(MESSAGE_MAX);
        if (!json_is_string(value))
            return error_set(err, ERR_INVALID, "field '%s': the value of '%s' must be a string",
                             f->name, key);
        protowire_put_bytes(&entry, 1, key, strlen(key));
        protowire_put_bytes(&entry, 2, json_string_value(value), json_string_length(value));
        if (strbuf_check(&entry, f->name, err) < 0)
            return -1;
        protowire_put_bytes(sb, f->id, strbuf_text(&entry), entry.len);
    }
    return 0;
}

static int put_list(const ProtobufCFieldDescriptor *f, json_t *list, unsigned depth,
                    struct strbuf *sb, struct error *err)
{
    size_t i;
    json_t *value;
    json_array_foreach (list, i, value)
        if (put_value(f, value, depth, sb, err) < 0)
            return -1;
    return 0;
}

static int put_field(const ProtobufCFieldDescriptor *f, json_t *v, unsigned depth,
                     struct strbuf *sb, struct error *err)
{
    if (json_is_null(v))
        return 0;
    if (f->label != PROTOBUF_C_LABEL_REPEATED)
        return put_value(f, v, depth, sb, err);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE && descriptor_is_map_entry(f->descriptor)) {
        if (!json_is_object(v))
            return wrong_type(f, "an object", err);
        return put_map(f, v, sb, err);
    }
    if (!json_is_array(v))
        return wrong_type(f, "a list", err);
    return put_list(f, v, depth, sb, err);
}

static int put_object(const ProtobufCMessageDescriptor *desc, json_t *obj, unsigned depth,
                      struct strbuf *sb, struct error *err)
{
    const char *key;
    json_t *value;
    if (depth > DEPTH_MAX)
        return error_set(err, ERR_INVALID, "%s is nested too deeply", desc->name);
    json_object_foreach (obj, key, value) {
        const ProtobufCFieldDescriptor *f = find_field(desc, key);
        if (f == NULL)
            return error_set(err, ERR_INVALID, "%s has no field '%s'", desc->name, key);
        if (put_field(f, value, depth, sb, err) < 0)
            return -1;
    }
    return 0;
}

int json_to_wire(const ProtobufCMessageDescriptor *desc, json_t *obj, struct strbuf *sb,
                 struct error *err)
{
    if (!json_is_object(obj))
        return error_set(err, ERR_INVALID, "the request must be a JSON object");
    if (put_object(desc, obj, 0, sb, err) < 0)
        return -1;
    return strbuf_check(sb, "the request", err);
}

/* ---- bytes to JSON ---- */

static json_t *get_message(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
                           unsigned depth);

static json_t *enum_name(const ProtobufCEnumDescriptor *desc, int value)
{
    const ProtobufCEnumValue *e = protobuf_c_enum_descriptor_get_value(desc, value);
    return e != NULL ? json_string(e->name) : json_integer(value);
}

static json_t *get_wrapper(const ProtobufCMessageDescriptor *desc, const struct protowire_field *w)
{
    struct protowire_reader r = protowire_reader_of(w->bytes, w->len);
    struct protowire_field part, last = { .value = 0 };
    int more;
    while ((more = protowire_next(&r, &part)) > 0)
        if (part.number == 1)
            last = part;
    if (more < 0)
        return NULL;
    if (desc->fields[0].type == PROTOBUF_C_TYPE_BOOL)
        return json_boolean(last.value != 0);
    return json_integer((json_int_t)last.value);
}

static json_t *get_value(const ProtobufCFieldDescriptor *f, const struct protowire_field *w,
                         unsigned depth)
{
    bool bytes = f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE;
    if (w->type != (bytes ? PROTOWIRE_BYTES : PROTOWIRE_VARINT))
        return NULL;
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        return json_stringn((const char *)w->bytes, w->len);
    case PROTOBUF_C_TYPE_MESSAGE:
        if (is_wrapper(f->descriptor))
            return get_wrapper(f->descriptor, w);
        return get_message(f->descriptor, w->bytes, w->len, depth + 1);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(w->value != 0);
    case PROTOBUF_C_TYPE_ENUM:
        return enum_name(f->descriptor, (int)w->value);
    case PROTOBUF_C_TYPE_INT32:
        return json_integer((int32_t)w->value);
    case PROTOBUF_C_TYPE_UINT64:
        if (w->value > INT64_MAX) /* beyond what the JSON library holds as a number */
            return json_sprintf("%" PRIu64, w->value);
        return json_integer((json_int_t)w->value);
    default:
        return json_integer((json_int_t)w->value);
    }
}

static int get_map_entry(json_t *obj, const char *name, const struct protowire_field *w)
{
    struct protowire_reader r = protowire_reader_of(w->bytes, w->len);
    struct protowire_field part, key = { .bytes = (const uint8_t *)"" },
                                 value = { .bytes = (const uint8_t *)"" };
    int more;
    while ((more = protowire_next(&r, &part)) > 0) {
        if (part.number == 1 && part.type == PROTOWIRE_BYTES)
            key = part;
        if (part.number == 2 && part.type == PROTOWIRE_BYTES)
            value = part;
    }
    json_t *map = json_object_get(obj, name);
    if (more < 0 || (map == NULL && json_object_set_new(obj, name, map = json_object()) < 0))
        return -1;
    return json_object_setn_new(map, (const char *)key.bytes, key.len,
                                json_stringn((const char *)value.bytes, value.len));
}

static int get_field(json_t *obj, const ProtobufCFieldDescriptor *f,
                     const struct protowire_field *w, unsigned depth)
{
    bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
    if (repeated && f->type == PROTOBUF_C_TYPE_MESSAGE && descriptor_is_map_entry(f->descriptor))
        return w->type == PROTOWIRE_BYTES ? get_map_entry(obj, f->name, w) : -1;
    AUTO_JSON json_t *value = get_value(f, w, depth);
    if (value == NULL)
        return -1;
    if (!repeated)
        return json_object_set(obj, f->name, value);
    json_t *list = json_object_get(obj, f->name);
    if (list == NULL && json_object_set_new(obj, f->name, list = json_array()) < 0)
        return -1;
    return json_array_append(list, value);
}

static json_t *get_message(const ProtobufCMessageDescriptor *desc, const void *data, size_t len,
                           unsigned depth)
{
    AUTO_JSON json_t *obj = json_object();
    struct protowire_reader r = protowire_reader_of(data, len);
    struct protowire_field w;
    int more;
    if (obj == NULL || depth > DEPTH_MAX)
        return NULL;
    while ((more = protowire_next(&r, &w)) > 0) {
        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(desc, w.number);
        if (f != NULL && get_field(obj, f, &w, depth) < 0)
            return NULL;
    }
    return more < 0 ? NULL : TAKE_PTR(obj);
}

int wire_to_json(const ProtobufCMessageDescriptor *desc, const void *data, size_t len, json_t **ret,
                 struct error *err)
{
    json_watch();
    json_t *obj = get_message(desc, data, len, 0);
    if (obj == NULL && json_no_memory())
        return error_memory(err);
    if (obj == NULL)
        return error_set(err, ERR_INTERNAL, "the reply is not a well-formed %s", desc->name);
    *ret = obj;
    return 0;
}
