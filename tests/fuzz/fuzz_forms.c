/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user's device wrapped for a list of recipients: whatever is taken, each of them has a form
 * as long as before and the rest as it was; whatever is refused changes nothing.
 *
 * covers: volume/forms.c:read_form volume/forms.c:take_form volume/forms.c:take_all
 * volume/forms.c:forms_take
 */
#include "tests/fuzz/target.h"

#include "volume/forms.h"

#define TEXT_MAX 4096u

static struct recipient_list before;

/* Fingerprints as in test_recipients.c: of "abc" and "abd". */
static void make(void)
{
    static const char *const keys[] = { "abc", "abd" };

    for (size_t i = 0; before.n < ARRAY_SIZE(keys); i++) {
        struct recipient r = { .algorithm = "RSA-OAEP-256", .key_len = 3, .wrapped_len = 3 };

        memcpy(r.key, keys[i], 3);
        must(recipients_add(&before, &r, NULL) == 0);
    }
}

static void must_be_taken(const struct recipient_list *list)
{
    char text[RECIPIENTS_TEXT_MAX + 1];

    must(list->n == before.n && recipients_encode(list, text, NULL) == 0);
    for (size_t i = 0; i < list->n; i++) {
        struct recipient r = list->items[i];

        memcpy(r.wrapped, before.items[i].wrapped, sizeof(r.wrapped));
        must(memcmp(&r, &before.items[i], sizeof(r)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    char text[TEXT_MAX + 1];
    struct recipient_list list;

    if (size > TEXT_MAX || memchr(data, '\0', size) != NULL)
        return 0;
    make();
    memcpy(text, data, size);
    text[size] = '\0';
    list = before;
    if (forms_take(text, &list, &err) == 0) {
        must_be_taken(&list);
        return 0;
    }
    must(memcmp(&list, &before, sizeof(list)) == 0);
    must_be_sentence(&err);
    return 0;
}
