/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/table.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include "volume/geometry.h"

enum { CIPHER, KEY, IV_OFFSET, DEVICE, OFFSET, N_OPTIONS, OPTION, N_WORDS };

/* 8192 sectors of 512 bytes = GEOMETRY_DATA_OFFSET */
static const char *const wanted[N_WORDS] = {
    [CIPHER] = GEOMETRY_CIPHER,    [IV_OFFSET] = "0", [OFFSET] = "8192", [N_OPTIONS] = "1",
    [OPTION] = "sector_size:4096",
};
static const char *const word_names[N_WORDS] = {
    [CIPHER] = "cipher",      [IV_OFFSET] = "IV offset",
    [OFFSET] = "data offset", [N_OPTIONS] = "number of options",
    [OPTION] = "option",
};
_Static_assert(GEOMETRY_DATA_OFFSET == 8192 * 512, "the table's data offset");
_Static_assert(GEOMETRY_SECTOR == 4096 && GEOMETRY_KEY_BITS == 8 * 64,
               "the table's sector and key size");

/* Cuts text into words in place; the count may exceed N_WORDS, what is beyond isn't stored. */
static size_t split(char *text, char *words[N_WORDS])
{
    size_t n = 0;
    char *save = NULL;

    for (char *w = strtok_r(text, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save)) {
        if (n < N_WORDS)
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

static bool words_are_ours(char *const words[N_WORDS], const char *uuid, char why[128])
{
    for (size_t i = 0; i < N_WORDS; i++) {
        if (wanted[i] != NULL && strcmp(words[i], wanted[i]) != 0) {
            (void)snprintf(why, 128, "its %s is '%.40s' instead of '%s'", word_names[i], words[i],
                           wanted[i]);
            return false;
        }
    }
    if (key_is_ours(words[KEY], uuid))
        return true;
    (void)snprintf(why, 128, "its key isn't a 64-byte keyring key of volume %s", uuid);
    return false;
}

bool table_is_ours(const char *params, const char *uuid, dev_t *ret_backing, char why[128])
{
    AUTO_FREE char *copy = strdup(params);
    char *words[N_WORDS] = { NULL };
    size_t n, len = strlen(params);
    bool ours;

    *ret_backing = 0;
    if (copy == NULL) {
        (void)snprintf(why, 128, "out of memory");
        return false;
    }
    n = split(copy, words);
    if (n > DEVICE && parse_dev(words[DEVICE], ret_backing) < 0)
        *ret_backing = 0;
    if (n == N_WORDS)
        ours = words_are_ours(words, uuid, why);
    else {
        (void)snprintf(why, 128, "its crypt table has %zu words instead of %d", n, N_WORDS);
        ours = false;
    }
    explicit_bzero(copy, len); /* a foreign table shows its key */
    return ours;
}
