/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CreateVolume's secrets for a key that a device made, a line "key=value" each: what is taken fits
 * into a record and is the same volume when it comes again; no sentence quotes a value.
 *
 * covers: volume/client_key.c volume/forms.c:form_is_der volume/forms.c:form_fits
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "volume/client_key.h"

#define SECRETS_MAX 16
#define QUOTED_MIN  36 /* as long as a uuid: no part of a sentence by chance */

static size_t split(char *text, struct param items[SECRETS_MAX])
{
    char *rest = text, *line;
    size_t n = 0;

    while (n < SECRETS_MAX && (line = strsep(&rest, "\n")) != NULL) {
        char *value = strchr(line, '=');
        if (value == NULL)
            continue;
        *value = '\0';
        items[n++] = (struct param){ line, value + 1 };
    }
    return n;
}

/* The names of algorithms are in sentences by themselves. */
static void must_not_quote(const struct error *err, const struct param *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        must(strlen(items[i].value) < QUOTED_MIN || strcmp(items[i].key, "algorithm") == 0 ||
             strstr(err->msg, items[i].value) == NULL);
}

static void check(const struct client_key *key)
{
    static struct recipient_list list;
    struct record r = { .key_source = KEY_SOURCE_CLIENT };
    struct error err = ERROR_INIT;
    const char *differs;

    must(uuid_valid(key->uuid) && hex_lower_valid(key->commitment, COMMITMENT_LEN));
    must(recipients_decode(key->device, &list, &err) == 0 && list.n == 1);
    must(strcmp(list.items[0].fingerprint, key->fingerprint) == 0);
    memcpy(r.uuid, key->uuid, sizeof(r.uuid));
    memcpy(r.recipients, key->device, sizeof(r.recipients));
    must(client_key_differs(key, &r, &differs, &err) == 0 && differs == NULL);
    must(record_commit(&r, key->commitment, &err) == 0 &&
         client_key_differs(key, &r, &differs, &err) == 0 && differs == NULL);
    r.key.ciphertext[strlen(r.key.ciphertext) - 1] ^= 1;
    must(client_key_differs(key, &r, &differs, &err) == 0 &&
         (differs != NULL || record_commitment(&r)[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = strndup((const char *)data, size);
    static struct client_key key;
    struct param items[SECRETS_MAX];
    struct error err = ERROR_INIT;

    must(text != NULL);
    size_t n = split(text, items);
    mark(&key, sizeof(key));
    if (client_key_decode(items, n, &key, &err) == 0) {
        check(&key);
        return 0;
    }
    must(err.code == ERR_INVALID);
    must_be_sentence(&err);
    must_be_marked(&key, sizeof(key));
    must_not_quote(&err, items, n);
    return 0;
}
