/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/answer.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "crypt/mapping.h"

/* "error" in the reply -> *err */
static int refused(json_t *reply, const char *verb, struct error *err)
{
    json_t *e = json_object_get(reply, "error");
    const char *code = json_string_value(json_object_get(e, "code"));
    const char *message = json_string_value(json_object_get(e, "message"));

    if (code == NULL || strcmp(code, "OK") == 0 || message == NULL || message[0] == '\0')
        return error_set(err, ERR_INTERNAL, "coffer-crypt %s failed without saying why", verb);
    return error_set(err, error_code_from_name(code), "%s", message);
}

int answer_read(const char *verb, const char *text, size_t len, int exit_code, json_t **ret,
                struct error *err)
{
    AUTO_JSON json_t *reply = NULL;

    if (json_parse(text, len, "coffer-crypt's reply", &reply, err) < 0) {
        (void)error_prefix(err, "coffer-crypt %s, exit code %d", verb, exit_code);
        return error_recode(err, ERR_INTERNAL);
    }
    if (exit_code != 0 || json_object_get(reply, "error") != NULL)
        return refused(reply, verb, err);
    *ret = TAKE_PTR(reply);
    return 0;
}

int answer_mapping(json_t *reply, struct mapping *ret, struct error *err)
{
    json_t *obj = json_object_get(reply, "mapping");

    if (!json_is_object(obj))
        return error_set(err, ERR_INTERNAL, "coffer-crypt's reply has no mapping");
    return mapping_from_json(obj, ret, err) < 0 ? error_recode(err, ERR_INTERNAL) : 0;
}

int answer_mappings(json_t *reply, struct mapping_list *ret, struct error *err)
{
    json_t *array = json_object_get(reply, "mappings");

    if (!json_is_array(array))
        return error_set(err, ERR_INTERNAL, "coffer-crypt list answered without a list");
    return mapping_list_from_json(array, ret, err) < 0 ? error_recode(err, ERR_INTERNAL) : 0;
}

int answer_hex(json_t *reply, const char *key, char ret[65], struct error *err)
{
    const char *text = json_string_value(json_object_get(reply, key));

    if (text == NULL || !hex_lower_valid(text, 64) || str_copy(ret, 65, text) < 0)
        return error_set(err, ERR_INTERNAL, "coffer-crypt's reply has no proper '%s'", key);
    return 0;
}
