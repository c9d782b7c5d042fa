/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/table.h"

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

/* A word that is longer is cut; none of ours is that long. */
#define WORD_SIZE 128

typedef char word[WORD_SIZE];

/* Copies the words of a text; the count may exceed WORDS_MAX, what is beyond isn't stored. */
static size_t split(const char *text, word words[WORDS_MAX])
{
    size_t n = 0;

    for (text += strspn(text, " "); *text != '\0'; text += strspn(text, " ")) {
        size_t len = strcspn(text, " ");

        if (n < WORDS_MAX)
            (void)snprintf(words[n], WORD_SIZE, "%.*s", len < WORD_SIZE ? (int)len : WORD_SIZE,
                           text);
        n++;
        text += len;
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

static bool words_are_ours(word words[WORDS_MAX], const struct form *form, const char *uuid,
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
    word words[WORDS_MAX] = { "" };
    const size_t n = split(params, words);
    const struct form *form = form_of(n, why);
    const bool ours = form != NULL && words_are_ours(words, form, uuid, why);

    *ret = (struct table_facts){ .discards = ours && form->discards };
    if (n > DEVICE && parse_dev(words[DEVICE], &ret->backing) < 0)
        ret->backing = 0;
    explicit_bzero(words, sizeof(words)); /* a foreign table shows its key */
    return ours;
}
