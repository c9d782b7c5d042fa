/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A public key that somebody hands in: what is taken is RSA or X25519 of an allowed size, has its
 * names; what isn't taken is refused in one sentence.
 *
 * covers: recipient/publickey.c:public_key_parse recipient/publickey.c:public_key_thumbprint
 */
#include "tests/fuzz/target.h"

#include "recipient/publickey.h"

static void must_be_named(const struct public_key *k)
{
    bool rsa = public_key_kind(k) == PUBLIC_KEY_RSA;
    char thumbprint[THUMBPRINT_LEN + 1], arcs[FINGERPRINT_LEN + 1];
    struct error err = ERROR_INIT;

    must(rsa ? public_key_bits(k) >= 2048 && public_key_bits(k) <= 4096
             : public_key_kind(k) == PUBLIC_KEY_X25519);
    must(strlen(public_key_fingerprint(k)) == FINGERPRINT_LEN);
    must(public_key_thumbprint(k, thumbprint, &err) == 0);
    must(strlen(thumbprint) == THUMBPRINT_LEN && strpbrk(thumbprint, "+/=") == NULL);
    must((public_key_arcs_fingerprint(k, arcs, &err) == 0) == rsa);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;
    struct error err = ERROR_INIT;

    if (public_key_parse(data, size, &k, &err) == 0) {
        must_be_named(k);
        return 0;
    }
    must(k == NULL);
    must_be_sentence(&err);
    return 0;
}
