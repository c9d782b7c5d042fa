/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/table.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include "volume/geometry.h"

enum { CIPHER, KEY, IV_OFFSET, DEVICE, OFFSET, N_OPTIONS, OPTION, OPTION_2, WORDS_MAX };

/* 8192 sectors of 512 bytes = GEOMETRY_DATA_OFFSET. The kernel shows options in an order of its
 * own. */
static const struct form {
    bool discards;
    size_t n;
    const char *wanted[WORDS_MAX];
} forms[] = {
    { false,
      OPTION_2,
      { [CIPHER] = GEOMETRY_CIPHER,
        [IV_OFFSET] = "0",
        [OFFSET] = "8192",
        [N_OPTIONS] = "1",
        [OPTION] = "sector_size:4096" } },
    { true,
      WORDS_MAX,
      { [CIPHER] = GEOMETRY_CIPHER,
        [IV_OFFSET] = "0",
        [OFFSET] = "8192",
        [N_OPTIONS] = "2",
        [OPTION] = "allow_discards",
        [OPTION_2] = "sector_size:4096" } },
};
static const char *const word_names[WORDS_MAX] = {
    [CIPHER] = "cipher",      [IV_OFFSET] = "IV offset",
    [OFFSET] = "data offset", [N_OPTIONS] = "number of options",
    [OPTION] = "option",      [OPTION_2] = "second option",
};
_Static_assert(GEOMETRY_DATA_OFFSET == 8192 * 512, "the table's data offset");
_Static_assert(GEOMETRY_SECTOR == 4096 && GEOMETRY_KEY_BITS == 8 * 64,
               "the table's sector and key size");

/* Cuts text into words in place; the count may exceed WORDS_MAX, what is beyond isn't stored. */
static size_t split(char *text, char *words[WORDS_MAX])
{
    size_t n = 0;
    char *save = NULL;

    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        if (n < WORDS_MAX)
            words[n] = w;
        n++;
    }
    return n;
}

/* The volume key must be in the kernel keyring, by a name that holds this volume's uuid. */
static bool key_is_ours(const char *key, const char *uuid)
{
    char expected[128];
    int n = snprintf(expected, sizeof(expected), ":64:logon:cryptsetup:%s-d", uuid);

    if (n < 0 || (size_t)n >= sizeof(expected) || strncmp(key, expected, (size_t)n) != 0)
        return false;
    return (key[n] == '0' || key[n] == '1') && key[n + 1] == '\0';
}

static const struct form *form_of(size_t n, char why[128])
{
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        if (forms[i].n == n)
            return &forms[i];
    }
    (void)snprintf(why, 128, "its crypt table has %zu words instead of %d or %d", n, OPTION_2,
                   WORDS_MAX);
    return NULL;
}

static bool words_are_ours(char *const words[WORDS_MAX], const struct form *form, const char *uuid,
                           char why[128])
{
    for (size_t i = 0; i < form->n; i++) {
        if (form->wanted[i] != NULL && strcmp(words[i], form->wanted[i]) != 0) {
            (void)snprintf(why, 128, "its %s is '%.40s' instead of '%s'", word_names[i], words[i],
                           form->wanted[i]);
            return false;
        }
    }
    if (key_is_ours(words[KEY], uuid))
        return true;
    (void)snprintf(why, 128, "its key isn't a 64-byte keyring key of volume %s", uuid);
    return false;
}

bool table_is_ours(const char *params, const char *uuid, struct table_facts *ret, char why[128])
{
    AUTO_FREE char *copy = strdup(params);
    char *words[WORDS_MAX] = { NULL };
    size_t n, len = strlen(params);
    const struct form *form;
    bool ours;

    *ret = (struct table_facts){ .backing = 0 };
    if (copy == NULL) {
        (void)snprintf(why, 128, "out of memory");
        return false;
    }
    n = split(copy, words);
    if (n > DEVICE && parse_dev(words[DEVICE], &ret->backing) < 0)
        ret->backing = 0;
    form = form_of(n, why);
    ours = form != NULL && words_are_ours(words, form, uuid, why);
    ret->discards = ours && form->discards;
    explicit_bzero(copy, len); /* a foreign table shows its key */
    return ours;
}
