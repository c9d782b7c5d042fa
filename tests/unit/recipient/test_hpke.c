/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers are those of RFC 9180's published test vectors: mode_base, kem 0x0020, kdf 0x0001,
 * aead 0x0002, the first encryption. */
#include "common/base.h"
#include "recipient/hpke.h"

#include "common/b64.h"

#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define INFO      "4f6465206f6e2061204772656369616e2055726e"
#define AAD       "436f756e742d30"
#define PLAIN     "4265617574792069732074727574682c20747275746820626561757479"
#define RECEIVER  "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c"
#define PRIVATE   "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d"
#define EPHEMERAL "179d4b53b6365c45b600c4163b61d95cbc2f4d9e36f1695558dce265ab8bab11"
#define SEALED                                                         \
    "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256" \
    "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be99319" \
    "80a41de125a925cdad859d5b7a"

struct sample {
    unsigned char receiver[HPKE_KEY_BYTES];
    unsigned char info[32], aad[32], sealed[128];
    size_t info_len, aad_len, sealed_len;
    struct secret *private_key, *plain;
};

static size_t unhex(unsigned char *to, const char *hex)
{
    assert_int_equal(hex_decode(to, hex, strlen(hex) / 2), 0);
    return strlen(hex) / 2;
}

static struct secret *hidden(const char *hex)
{
    struct secret *s = secret_new(strlen(hex) / 2, NULL);

    assert_non_null(s);
    secret_set_len(s, unhex(secret_bytes(s), hex));
    return s;
}

static int make(void **state)
{
    static struct sample s;

    unhex(s.receiver, RECEIVER);
    s.info_len = unhex(s.info, INFO);
    s.aad_len = unhex(s.aad, AAD);
    s.sealed_len = unhex(s.sealed, SEALED);
    s.private_key = hidden(PRIVATE);
    s.plain = hidden(PLAIN);
    *state = &s;
    return 0;
}

static int drop(void **state)
{
    struct sample *s = *state;

    secret_free(s->private_key);
    secret_free(s->plain);
    return 0;
}

static struct bytes info(const struct sample *s)
{
    return (struct bytes){ s->info, s->info_len };
}

static struct bytes aad(const struct sample *s)
{
    return (struct bytes){ s->aad, s->aad_len };
}

static void seals_as_the_rfc_does(void **state)
{
    const struct sample *s = *state;
    AUTO_SECRET struct secret *ephemeral = hidden(EPHEMERAL);
    unsigned char out[128];
    struct error err = ERROR_INIT;

    assert_int_equal(hpke_seal_with(ephemeral, s->receiver, info(s), aad(s), s->plain, out, &err),
                     0);
    assert_int_equal(s->sealed_len, HPKE_OVERHEAD_BYTES + secret_len(s->plain));
    assert_memory_equal(out, s->sealed, s->sealed_len);
}

static void opens_what_the_rfc_sealed(void **state)
{
    const struct sample *s = *state;
    AUTO_SECRET struct secret *plain = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(hpke_open(s->private_key, info(s), aad(s),
                               (struct bytes){ s->sealed, s->sealed_len }, &plain, &err),
                     0);
    assert_true(secret_equal(plain, s->plain));
}

static void each_message_has_a_key_of_its_own(void **state)
{
    const struct sample *s = *state;
    unsigned char one[128], other[128];
    AUTO_SECRET struct secret *plain = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(hpke_seal(s->receiver, info(s), aad(s), s->plain, one, &err), 0);
    assert_int_equal(hpke_seal(s->receiver, info(s), aad(s), s->plain, other, &err), 0);
    assert_memory_not_equal(one, other, HPKE_KEY_BYTES);
    assert_int_equal(hpke_open(s->private_key, info(s), aad(s),
                               (struct bytes){ other, s->sealed_len }, &plain, &err),
                     0);
    assert_true(secret_equal(plain, s->plain));
}

static void refuse(const struct secret *private_key, struct bytes in, struct bytes with,
                   struct bytes sealed)
{
    struct secret *plain = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(hpke_open(private_key, in, with, sealed, &plain, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(plain);
    assert_int_equal(ERR_peek_error(), 0);
}

static void every_bit_counts(void **state)
{
    const struct sample *s = *state;

    for (size_t bit = 0; bit < s->sealed_len * 8; bit++) {
        unsigned char changed[128];

        memcpy(changed, s->sealed, s->sealed_len);
        changed[bit / 8] ^= (unsigned char)(1u << bit % 8);
        refuse(s->private_key, info(s), aad(s), (struct bytes){ changed, s->sealed_len });
    }
}

static void use_and_key_count(void **state)
{
    const struct sample *s = *state;
    const struct bytes sealed = { s->sealed, s->sealed_len };
    AUTO_SECRET struct secret *other = hidden(EPHEMERAL);

    refuse(s->private_key, (struct bytes){ s->info, s->info_len - 1 }, aad(s), sealed);
    refuse(s->private_key, info(s), (struct bytes){ "", 0 }, sealed);
    refuse(other, info(s), aad(s), sealed);
    for (size_t len = 0; len < sealed.len; len++)
        refuse(s->private_key, info(s), aad(s), (struct bytes){ s->sealed, len });
}

/* RFC 7748 §6.1: with these, anybody would know the secret. */
static void keys_of_small_order_are_refused(void **state)
{
    static const char *const SMALL[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    };
    const struct sample *s = *state;

    for (size_t i = 0; i < ARRAY_SIZE(SMALL); i++) {
        unsigned char key[HPKE_KEY_BYTES], sealed[128], out[128];
        struct error err = ERROR_INIT;

        unhex(key, SMALL[i]);
        assert_int_equal(hpke_seal(key, info(s), aad(s), s->plain, out, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        memcpy(sealed, s->sealed, s->sealed_len);
        memcpy(sealed, key, sizeof(key));
        refuse(s->private_key, info(s), aad(s), (struct bytes){ sealed, s->sealed_len });
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seals_as_the_rfc_does),
        cmocka_unit_test(opens_what_the_rfc_sealed),
        cmocka_unit_test(each_message_has_a_key_of_its_own),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(use_and_key_count),
        cmocka_unit_test(keys_of_small_order_are_refused),
    };

    return cmocka_run_group_tests(tests, make, drop);
}
