/* SPDX-License-Identifier: Apache-2.0 */
/* What the device of tests/support/rsa_key.h is known by, and how texts become secrets. */
#ifndef COFFER_TESTS_UNIT_DEVICE_FIXTURE_H
#define COFFER_TESTS_UNIT_DEVICE_FIXTURE_H

#include "device/key.h"
#include "tests/support/rsa_key.h"
#include "tests/support/unit.h"

#define KNOWN_NAME        "1d87e03730a09a66185529e8a56d611f8569f893363d9967e617954ae406f236"
#define KNOWN_FINGERPRINT "898f23e5c631aeee73ed39fdb04d84fc406c3e1a559f2d8c447d8bc5f9ef4c34"

static inline struct secret *secret_from(const void *data, size_t len)
{
    struct secret *s = secret_new(len, NULL);

    assert_non_null(s);
    memcpy(secret_bytes(s), data, len);
    secret_set_len(s, len);
    return s;
}

static inline struct device_key *known_device(void)
{
    AUTO_SECRET struct secret *pem = secret_from(RSA_PEM, strlen(RSA_PEM));
    struct device_key *k = NULL;

    assert_works(device_key_parse(pem, &k, &err));
    return k;
}

/* The bytes 0 to 31. */
static inline struct secret *known_key(void)
{
    unsigned char bytes[32];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    return secret_from(bytes, sizeof(bytes));
}

#endif
