/* SPDX-License-Identifier: Apache-2.0 */
/* A record's recipients and a private key: what leads to the storage key, and what is refused. */
#include "common/base.h"
#include "crypt/rescue.h"

#include "common/deadline.h"
#include "recipient/unwrap.h"
#include "volume/context.h"
#include "volume/recipients.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <unistd.h>

#define SOON 300000u

struct holder {
    struct secret *pem;
    struct public_key *public;
    unsigned char der[RECIPIENT_KEY_MAX];
    size_t der_len;
};

static struct secret *pem_of(EVP_PKEY *key)
{
    struct secret *s = secret_new(PRIVATE_KEY_MAX, NULL);
    BIO *out = BIO_new(BIO_s_mem());
    char *text;
    long len;

    assert_non_null(s);
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL), 1);
    len = BIO_get_mem_data(out, &text);
    memcpy(secret_bytes(s), text, (size_t)len);
    secret_set_len(s, (size_t)len);
    BIO_free(out);
    return s;
}

static struct holder holder_of(EVP_PKEY *key)
{
    struct holder h = { .pem = pem_of(key) };
    unsigned char *der = h.der;

    h.der_len = (size_t)i2d_PUBKEY(key, &der);
    assert_int_equal(public_key_parse(h.der, h.der_len, &h.public, NULL), 0);
    EVP_PKEY_free(key);
    return h;
}

static struct holder new_holder(const char *kind)
{
    return holder_of(strcmp(kind, "RSA") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, kind, (size_t)2048)
                                              : EVP_PKEY_Q_keygen(NULL, NULL, kind));
}

static void drop(struct holder *h)
{
    secret_free(h->pem);
    public_key_free(h->public);
}

static struct secret *new_key(size_t len)
{
    struct secret *s = secret_new(64, NULL);

    assert_non_null(s);
    assert_int_equal(secret_random(s, len, NULL), 0);
    return s;
}

static struct record new_record(void)
{
    return (struct record){ .id = "fast.01234567.0123456789abcdef0123456789abcdef",
                            .uuid = "0a1b2c3d-4e5f-4607-8899-aabbccddeeff",
                            .tenant = "lab",
                            .state = RECORD_READY };
}

static void wrap_for(const struct holder *h, const struct record *r, const struct secret *key,
                     struct recipient_list *list)
{
    const struct wrap_algorithm *a = wrap_default(h->public);
    unsigned char context[CONTEXT_SIZE], info[CONTEXT_RECIPIENT_SIZE];
    struct recipient to = { .key_len = h->der_len };
    struct wrapped w;

    context_compute(r->tenant, r->id, r->uuid, context);
    context_recipient(context, info);
    assert_int_equal(wrap_key(a, h->public, (struct bytes){ info, sizeof(info) }, key, &w, NULL),
                     0);
    (void)snprintf(to.algorithm, sizeof(to.algorithm), "%s", a->name);
    memcpy(to.key, h->der, h->der_len);
    memcpy(to.wrapped, w.data, w.len);
    to.wrapped_len = w.len;
    assert_int_equal(recipients_add(list, &to, NULL), 0);
}

static void put(const struct recipient_list *list, struct record *r)
{
    assert_int_equal(recipients_encode(list, r->recipients, NULL), 0);
}

static void must_refuse(const struct holder *h, const struct record *r, enum error_code code,
                        const char *sentence)
{
    struct error err = ERROR_INIT;
    struct secret *got = NULL;

    assert_int_equal(rescue_storage_key(h->pem, r, &got, &err), -1);
    assert_null(got);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.msg, sentence));
}

static void each_holder_gets_the_key(void **state UNUSED)
{
    struct holder all[] = { new_holder("RSA"), new_holder("X25519"), new_holder("RSA") };
    struct recipient_list list = { .n = 0 };
    struct record r = new_record();
    AUTO_SECRET struct secret *key = new_key(32);

    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        wrap_for(&all[i], &r, key, &list);
    put(&list, &r);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        AUTO_SECRET struct secret *got = NULL;

        assert_int_equal(rescue_storage_key(all[i].pem, &r, &got, NULL), 0);
        assert_true(secret_equal(got, key));
        drop(&all[i]);
    }
}

static void refuses_who_is_none(void **state UNUSED)
{
    struct holder in = new_holder("X25519"), out = new_holder("X25519");
    struct recipient_list list = { .n = 0 };
    struct record r = new_record();
    AUTO_SECRET struct secret *key = new_key(32);

    must_refuse(&in, &r, ERR_PRECONDITION,
                "the record of volume 'fast.01234567.0123456789abcdef0123456789abcdef' names no "
                "recipient: no private key opens it");
    wrap_for(&in, &r, key, &list);
    put(&list, &r);
    must_refuse(&out, &r, ERR_PRECONDITION, "the private key is none of the recipients' of volume");
    must_refuse(&out, &r, ERR_PRECONDITION, public_key_fingerprint(out.public));
    drop(&in);
    drop(&out);
}

/* What is wrapped by HPKE is bound to the volume; by RSA it isn't: there the record's MAC tells. */
static void refuses_another_volumes_form(void **state UNUSED)
{
    struct holder h = new_holder("X25519");
    struct recipient_list list = { .n = 0 };
    struct record r = new_record(), other = new_record();
    AUTO_SECRET struct secret *key = new_key(32);

    other.uuid[0] = 'f';
    wrap_for(&h, &other, key, &list);
    put(&list, &r);
    must_refuse(&h, &r, ERR_INVALID, "this private key doesn't open what was wrapped");
    (void)snprintf(other.uuid, sizeof(other.uuid), "%s", r.uuid);
    (void)snprintf(other.tenant, sizeof(other.tenant), "lab2");
    put(&list, &other);
    must_refuse(&h, &other, ERR_INVALID, "this private key doesn't open what was wrapped");
    drop(&h);
}

static void refuses_a_broken_list(void **state UNUSED)
{
    struct holder h = new_holder("X25519");
    struct record r = new_record();
    struct recipient_list list = { .n = 0 };
    AUTO_SECRET struct secret *key = new_key(32);
    AUTO_SECRET struct secret *short_key = new_key(31);

    (void)snprintf(r.recipients, sizeof(r.recipients), "[{]");
    must_refuse(&h, &r, ERR_DATA_LOSS, "the record of volume");
    wrap_for(&h, &r, key, &list);
    list.items[0].wrapped[40] ^= 1;
    put(&list, &r);
    must_refuse(&h, &r, ERR_INVALID, "this private key doesn't open what was wrapped");
    list.n = 0;
    wrap_for(&h, &r, short_key, &list);
    put(&list, &r);
    must_refuse(&h, &r, ERR_DATA_LOSS, "what was wrapped has 31 bytes, not a key's 32");
    drop(&h);
}

/* ---- reading ---- */

static int read_from(const char *text, size_t len, bool keep_open, struct secret **ret,
                     struct error *err)
{
    uint64_t deadline = deadline_in(keep_open ? 50 : SOON);
    int ends[2], r;

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], text, len), (ssize_t)len);
    if (!keep_open)
        (void)close(ends[1]);
    r = rescue_read_private_key(ends[0], deadline, ret, err);
    (void)close(ends[0]);
    if (keep_open)
        (void)close(ends[1]);
    return r;
}

static void reads_to_the_end(void **state UNUSED)
{
    static char text[PRIVATE_KEY_MAX + 1];
    AUTO_SECRET struct secret *got = NULL;
    AUTO_SECRET struct secret *all = NULL;
    struct secret *none = NULL;
    struct error err = ERROR_INIT;

    memset(text, 'x', sizeof(text));
    assert_int_equal(read_from("abc", 3, false, &got, NULL), 0);
    assert_int_equal(secret_len(got), 3);
    assert_memory_equal(secret_data(got), "abc", 3);
    assert_int_equal(read_from(text, PRIVATE_KEY_MAX, false, &all, NULL), 0);
    assert_int_equal(secret_len(all), PRIVATE_KEY_MAX);
    assert_int_equal(read_from(text, PRIVATE_KEY_MAX + 1, false, &none, &err), -1);
    assert_string_equal(err.msg, "the private key has more than 16384 bytes");
    assert_int_equal(read_from("abc", 3, true, &none, &err), -1);
    assert_int_equal(err.code, ERR_DEADLINE);
    assert_null(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_holder_gets_the_key),
        cmocka_unit_test(refuses_who_is_none),
        cmocka_unit_test(refuses_another_volumes_form),
        cmocka_unit_test(refuses_a_broken_list),
        cmocka_unit_test(reads_to_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
