/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict JSON: what is accepted is the same value when it is written and read again, and no reader
 * crashes.
 *
 * covers: common/json.c
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/json.h"

static void read_fields(json_t *value)
{
    struct json_reader r = json_reader_of(value, "input");
    struct error err = ERROR_INIT;
    char text[16] = "", needed[16] = "";
    uint64_t n = 0, m = 0;
    bool b = false, c = false;

    (void)json_get_string_opt(&r, "s", text, sizeof(text));
    (void)json_get_u64_opt(&r, "n", &n);
    (void)json_get_bool_opt(&r, "b", &b);
    (void)json_get_object_opt(&r, "o");
    (void)json_get_any_opt(&r, "any");
    if (json_object_get(value, "all") != NULL) {
        json_get_string(&r, "all", needed, sizeof(needed));
        json_get_u64(&r, "m", &m);
        json_get_bool(&r, "c", &c);
        (void)json_get_object(&r, "p");
        (void)json_get_array(&r, "a");
    }
    if (json_reader_done(&r, &err) < 0)
        must_be_sentence(&err);
    must(strlen(text) < sizeof(text) && n <= INT64_MAX && m <= INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_JSON json_t *value = NULL, *again = NULL;
    AUTO_FREE char *text = NULL;
    struct error err = ERROR_INIT;

    if (json_parse((const char *)data, size, "input", &value, &err) < 0) {
        must(value == NULL);
        must_be_sentence(&err);
        return 0;
    }
    read_fields(value);
    text = json_text(value, JSON_COMPACT);
    must(text != NULL && json_parse(text, strlen(text), "again", &again, &err) == 0);
    must(json_equal(value, again) == 1);
    return 0;
}
