/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/counters.h"

static const char *op_name(size_t op)
{
    const struct wire_message *m = wire_message_find((uint16_t)op);
    return m == NULL ? NULL : wire_message_name(m);
}

static json_t *results_to_json(const uint64_t results[ERR_CODE_COUNT])
{
    json_t *obj = json_object();
    for (size_t code = 0; code < ERR_CODE_COUNT; code++) {
        if (results[code] > 0)
            (void)json_object_set_new(obj, error_code_name((enum error_code)code),
                                      json_integer((json_int_t)results[code]));
    }
    return obj;
}

json_t *counters_to_json(const struct counters *c)
{
    json_t *requests = json_object();
    for (size_t op = 0; op < WIRE_OP_LIMIT; op++) {
        if (op_name(op) != NULL)
            (void)json_object_set_new(requests, op_name(op), results_to_json(c->requests[op]));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I}", "requests", requests, "accepted",
                     (json_int_t)c->accepted, "refused_peers", (json_int_t)c->refused_peers,
                     "broken", (json_int_t)c->broken, "idle_closed", (json_int_t)c->idle_closed);
}

void counters_to_text(const struct counters *c, struct strbuf *sb)
{
    for (size_t op = 0; op < WIRE_OP_LIMIT; op++) {
        for (size_t code = 0; code < ERR_CODE_COUNT; code++) {
            if (op_name(op) == NULL || c->requests[op][code] == 0)
                continue;
            strbuf_addf(sb, "%s%s %s=%llu", sb->len > 0 ? ", " : "", op_name(op),
                        error_code_name((enum error_code)code),
                        (unsigned long long)c->requests[op][code]);
        }
    }
}
