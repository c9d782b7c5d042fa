/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/forms.h"

#include "common/b64.h"

#define HPKE_WRAPPED 80u /* enc, key, tag */
#define RSA_WRAPPED  256u

bool form_is_der(const unsigned char *der, size_t len)
{
    size_t n = len > 1 ? der[1] : 0, head = 2;

    if (len < 2 || der[0] != 0x30)
        return false;
    if (n == 0x81 && len > 2) {
        n = der[2];
        head = 3;
    } else if (n == 0x82 && len > 3) {
        n = (size_t)der[2] << 8 | der[3];
        head = 4;
    } else if (n >= 0x80) {
        return false;
    }
    return head + n == len;
}

bool form_fits(const struct recipient *r)
{
    return strcmp(r->algorithm, RECIPIENT_X25519) == 0 ? r->wrapped_len == HPKE_WRAPPED
                                                       : r->wrapped_len >= RSA_WRAPPED;
}

/* --- a list of them --- */

struct form {
    char fingerprint[65];
    unsigned char wrapped[RECIPIENT_WRAPPED_MAX];
    size_t len;
};

static int read_form(json_t *obj, struct form *ret, struct error *err)
{
    char text[B64_LEN(RECIPIENT_WRAPPED_MAX) + 1] = "";

    if (!json_is_object(obj))
        return error_set(err, ERR_INVALID, "each must be an object");
    struct json_reader r = json_reader_of(obj, "one of them");
    json_get_string(&r, "fingerprint", ret->fingerprint, sizeof(ret->fingerprint));
    json_get_string(&r, "wrapped", text, sizeof(text));
    if (b64_decode(ret->wrapped, sizeof(ret->wrapped), text, strlen(text), &ret->len) < 0)
        json_problem(&r, "field 'wrapped' must be base64 of at most %u bytes",
                     RECIPIENT_WRAPPED_MAX);
    return json_reader_done(&r, err);
}

/* One key, one algorithm: what it wraps has one length. */
static int take_form(const struct form *f, struct recipient_list *list, bool taken[RECIPIENTS_MAX],
                     struct error *err)
{
    struct recipient *r = recipients_find(list, f->fingerprint);

    if (r == NULL)
        return error_set(err, ERR_INVALID, "one of them is for a key that isn't to be a recipient");
    if (taken[r - list->items])
        return error_set(err, ERR_INVALID, "key %s is there twice", r->fingerprint);
    if (f->len != r->wrapped_len)
        return error_set(err, ERR_INVALID, "what is wrapped for key %s must have %zu bytes",
                         r->fingerprint, r->wrapped_len);
    memcpy(r->wrapped, f->wrapped, f->len);
    taken[r - list->items] = true;
    return 0;
}

static int take_all(const json_t *array, struct recipient_list *list, struct error *err)
{
    bool taken[RECIPIENTS_MAX] = { false };

    for (size_t i = 0; i < json_array_size(array); i++) {
        struct form f = { .len = 0 };

        if (read_form(json_array_get(array, i), &f, err) < 0 || take_form(&f, list, taken, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < list->n; i++) {
        if (!taken[i])
            return error_set(err, ERR_INVALID, "nothing is wrapped for key %s, which stays",
                             list->items[i].fingerprint);
    }
    return 0;
}

int forms_take(const char *text, struct recipient_list *list, struct error *err)
{
    struct recipient_list all = *list;
    AUTO_JSON json_t *array = NULL;
    struct error local = ERROR_INIT;

    if (json_parse(text, strlen(text), "recipients", &array, &local) < 0 && error_is_memory(&local))
        return error_pass(err, &local);
    if (!json_is_array(array))
        return error_set(err, ERR_INVALID, "it must be a JSON array");
    if (take_all(array, &all, err) < 0)
        return error_recode(err, ERR_INVALID);
    *list = all;
    return 0;
}
