/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A crypt target's parameters as the kernel shows them: only two texts are ours, and a key that a
 * foreign table shows is in no message.
 *
 * covers: crypt/table.c common/parse.c:parse_dev
 */
#include "tests/fuzz/target.h"

#include "common/blockdev.h"
#include "common/cleanup.h"
#include "crypt/table.h"

#define UUID "0a1b2c3d-4e5f-4607-8899-aabbccddeeff"

/* One of the two forms, but for runs of spaces. */
static void must_be_ours(const char *params, const struct table_facts *facts)
{
    dev_t backing = facts->backing;
    char dev[DEV_TEXT_SIZE];

    blockdev_text(backing, dev);
    must(backing != 0 || strstr(params, "0:0") != NULL || strstr(params, dev) == NULL);
    must(strstr(params, "aes-xts-plain64 ") != NULL && strstr(params, "sector_size:4096") != NULL);
    must(facts->discards == (strstr(params, " allow_discards ") != NULL)); /* as a word */
    must(strstr(params, ":64:logon:cryptsetup:" UUID "-d") != NULL);
}

/* With another key in its place the words are the same: so they tell nothing about it. */
static void must_not_tell_key(const char *params, const char *why)
{
    AUTO_FREE char *other = strdup(params);
    char again[128] = "";
    struct table_facts facts;

    must(other != NULL);
    char *key = other + strspn(other, " ");
    key += strcspn(key, " ");
    key += strspn(key, " ");
    memset(key, 'Z', strcspn(key, " "));
    must(!table_is_ours(other, UUID, &facts, again) && strcmp(why, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *params = strndup((const char *)data, size);
    char why[128] = "", again[DEV_TEXT_SIZE];
    struct table_facts facts = { .backing = 1 };
    dev_t backing;

    must(params != NULL);
    if (table_is_ours(params, UUID, &facts, why)) {
        must_be_ours(params, &facts);
    } else {
        must(why[0] != '\0' && strnlen(why, sizeof(why)) < sizeof(why));
        must_not_tell_key(params, why);
    }
    if (parse_dev(params, &backing) == 0) {
        blockdev_text(backing, again);
        must(strlen(again) <= strlen(params));
    }
    return 0;
}
