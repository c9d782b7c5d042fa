/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request decoders: byte 0 picks the method, the rest is the message. Whatever is accepted must
 * be text within its limits, and must turn into JSON and back into a message that is accepted
 * again.
 */
#include "common/base.h"

#include "common/json.h"
#include "common/parse.h"
#include "csi/client_json.h"
#include "csi/dispatch.h"
#include "csi/validate.h"
#include "tests/fuzz/target.h"

#define MEMORY MIB(16)

static void check_map(const struct csi_map *m)
{
    size_t total = 0;
    for (size_t i = 0; i < m->n; i++) {
        must(utf8_valid(m->items[i].key, strlen(m->items[i].key)));
        must(i == 0 || strcmp(m->items[i - 1].key, m->items[i].key) < 0);
        total += strlen(m->items[i].key) + strlen(m->items[i].value);
    }
    must(total <= VALIDATE_TOTAL_MAX);
}

static void check_create(const struct csi_create_volume_request *r)
{
    must(r->name[0] != '\0' && strlen(r->name) <= VALIDATE_STRING_MAX);
    must(r->capabilities.n > 0);
    must(r->limit_bytes == 0 || r->limit_bytes >= r->required_bytes);
    check_map(&r->parameters);
    check_map(&r->secrets);
    check_map(&r->mutable_parameters);
}

static void check_stage(const struct csi_stage_request *r)
{
    must(r->volume_id[0] != '\0' && strlen(r->volume_id) <= VALIDATE_STRING_MAX);
    must(r->staging_target_path[0] != '\0' && strlen(r->staging_target_path) <= VALIDATE_PATH_MAX);
    must(r->capability.mode != CSI_MODE_UNKNOWN && r->capability.type != CSI_ACCESS_NONE);
    check_map(&r->volume_context);
    check_map(&r->secrets);
}

static void check_decoded(const struct method *m, const struct request *r)
{
    if (m->decode == decode_create_volume)
        check_create(r->decoded);
    if (m->decode == decode_stage)
        check_stage(r->decoded);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct method *m = &csi_methods[data[0] % csi_methods_len];
    if (m->request == NULL)
        return 0;
    struct arena *a = arena_new(MEMORY);
    struct request r = { .message = NULL };
    struct error err = ERROR_INIT;
    if (dispatch_decode(m, a, data + 1, size - 1, &r, &err) == 0) {
        check_decoded(m, &r);
        check_json(m, data + 1, size - 1);
    } else {
        must(err.code != ERR_OK && err.msg[0] != '\0' && utf8_valid(err.msg, strlen(err.msg)));
    }
    arena_free(a);
    return 0;
}
