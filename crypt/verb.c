/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/verb.h"

#define KEYED (TAKES_NAME | TAKES_RECORD | TAKES_DEVICE | TAKES_DEVICE_FD | TAKES_KEY)

static const struct verb verbs[] = {
    { "list", 0, verb_list },
    { "blank", TAKES_NAME | TAKES_RECORD | TAKES_DEVICE | TAKES_DEVICE_FD | TAKES_STORED_STATE,
      verb_blank },
    { "format", KEYED | TAKES_STORED_STATE | TAKES_READ_ONLY | WRITES_HEADER, verb_format },
    { "open", KEYED | TAKES_READ_ONLY, verb_open },
    { "check", TAKES_NAME | TAKES_RECORD | TAKES_DEVICE, verb_check },
    { "resize", KEYED, verb_resize },
    { "close", TAKES_NAME | TAKES_DM_UUID, verb_close },
    { "recipients", KEYED | TAKES_RECIPIENTS, verb_recipients },
    { "rekey", KEYED | TAKES_RECIPIENTS | TAKES_NEW_KEY | TAKES_OUT | WRITES_HEADER, verb_rekey },
    { "prune", KEYED | WRITES_HEADER, verb_prune },
    { "passphrase", KEYED | TAKES_OUT, verb_passphrase },
    { "rescue",
      TAKES_NAME | TAKES_RECORD | TAKES_DEVICE | TAKES_DEVICE_FD | TAKES_PRIVATE_KEY | TAKES_OUT,
      verb_rescue },
};

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

const char *verb_names(void)
{
    static char names[128];
    size_t at = 0;

    for (size_t i = 0; i < ARRAY_SIZE(verbs) && at < sizeof(names); i++)
        at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i > 0 ? ", " : "",
                               verbs[i].name);
    return names;
}
