/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coffer-crypt rescue: a private key as it comes in, and with a good one what a record says was
 * wrapped for it (whoever writes the pool). Nothing comes out but a key of an allowed length.
 *
 * covers: recipient/unwrap.c
 */
#include "tests/fuzz/target.h"

#include "recipient/unwrap.h"

#define RSA_BYTES 256u /* what a seed's key wraps */

static const char GOOD[] = "-----BEGIN PRIVATE KEY-----\n"
                           "MC4CAQAwBQYDK2VuBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"
                           "-----END PRIVATE KEY-----\n";

static struct private_key *parse(const void *text, size_t len, struct error *err)
{
    AUTO_SECRET struct secret *pem = secret_new(PRIVATE_KEY_MAX + 1, NULL);
    struct private_key *k = NULL;

    must(pem != NULL);
    if (len > PRIVATE_KEY_MAX)
        len = PRIVATE_KEY_MAX + 1;
    memcpy(secret_bytes(pem), text, len);
    secret_set_len(pem, len);
    if (private_key_parse(pem, &k, err) < 0)
        must(k == NULL);
    return k;
}

/* By each algorithm: its own kind's opens or not, another kind's never. */
static void open_with(const struct private_key *k, struct bytes wrapped)
{
    static const char *const names[] = { "RSA-OAEP-256", "RSA-OAEP-512",
                                         "HPKE-Base-X25519-SHA256-A256GCM" };
    const struct bytes info = { "use", 3 };

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const struct wrap_algorithm *a = wrap_algorithm(names[i]);
        AUTO_SECRET struct secret *key = NULL;
        struct error err = ERROR_INIT;

        if (unwrap_key(a, k, info, wrapped, &key, &err) == 0) {
            must(a->kind == public_key_kind(private_key_public(k)));
            must(secret_len(key) > 0 && secret_len(key) <= WRAP_PLAIN_MAX);
            continue;
        }
        must(key == NULL);
        must_be_sentence(&err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    AUTO_PRIVATE_KEY struct private_key *good = parse(GOOD, strlen(GOOD), NULL);
    AUTO_PRIVATE_KEY struct private_key *given = parse(data, size, &err);

    must(good != NULL);
    open_with(good, (struct bytes){ data, size });
    if (given != NULL)
        open_with(given, (struct bytes){ data, size < RSA_BYTES ? size : RSA_BYTES });
    else
        must_be_sentence(&err);
    return 0;
}
