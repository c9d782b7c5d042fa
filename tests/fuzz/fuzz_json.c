/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON: what is accepted is the same value when it is written and read again, and no reader
 * crashes. */
#include "common/base.h"
#include "common/cleanup.h"
#include "common/json.h"
#include "common/parse.h"
#include "tests/fuzz/target.h"

static void read_fields(json_t *value)
{
    struct json_reader r = json_reader_of(value, "input");
    struct error err = ERROR_INIT;
    char text[16] = "";
    uint64_t n = 0;
    bool b = false;

    (void)json_get_string_opt(&r, "s", text, sizeof(text));
    (void)json_get_u64_opt(&r, "n", &n);
    (void)json_get_bool_opt(&r, "b", &b);
    (void)json_get_object_opt(&r, "o");
    if (json_reader_done(&r, &err) < 0)
        must(err.msg[0] != '\0' && utf8_valid(err.msg, strlen(err.msg)));
    must(strlen(text) < sizeof(text) && n <= INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *value = NULL, *again = NULL;
    AUTO_FREE char *text = NULL;
    struct error err = ERROR_INIT;

    if (json_parse((const char *)data, size, "input", &value, &err) < 0) {
        must(value == NULL && err.msg[0] != '\0');
        return 0;
    }
    read_fields(value);
    text = json_dumps(value, JSON_COMPACT);
    must(text != NULL && json_parse(text, strlen(text), "again", &again, &err) == 0);
    must(json_equal(value, again) == 1);
    return 0;
}
