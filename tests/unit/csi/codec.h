/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h: a request from its JSON to the struct that an op gets, in an arena made for each test.
 */
#ifndef COFFER_TESTS_UNIT_CSI_CODEC_H
#define COFFER_TESTS_UNIT_CSI_CODEC_H

#include "common/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/json.h"
#include "csi/client_json.h"
#include "csi/dispatch.h"

#define CAP "{\"mount\":{},\"access_mode\":{\"mode\":1}}"

static struct arena *arena;

static inline const struct method *method_called(const char *name)
{
    for (size_t i = 0; i < csi_methods_len; i++)
        if (strcmp(strrchr(csi_methods[i].path, '/') + 1, name) == 0)
            return &csi_methods[i];
    fail_msg("no method %s", name);
    return NULL;
}

static inline int decode_bytes(const struct method *m, const struct strbuf *sb, struct request *r,
                               struct error *err)
{
    char *copy = arena_alloc(arena, sb->len + 1);
    assert_non_null(copy);
    memcpy(copy, strbuf_text(sb), sb->len);
    return dispatch_decode(m, arena, copy, sb->len, r, err);
}

static inline int decode(const char *name, const char *json, struct request *r, struct error *err)
{
    const struct method *m = method_called(name);
    AUTO_JSON json_t *obj = json_own(json);
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(1 << 20);
    assert_non_null(obj);
    if (json_to_wire(m->request, obj, &sb, err) < 0)
        fail_msg("%s", err->msg);
    return decode_bytes(m, &sb, r, err);
}

static inline int set_up(void **state)
{
    arena = arena_new(MIB(1));
    return arena == NULL;
}

static inline int tear_down(void **state)
{
    arena_free(arena);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

#endif
