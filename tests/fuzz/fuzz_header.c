/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The allowlist for LUKS2 metadata: any bytes; what it accepts must be what Coffer makes.
 *
 * covers: crypt/allow.c
 */
#include "tests/fuzz/target.h"

#include "crypt/allow.h"

static void check(const struct header_facts *f, const uint8_t *data, size_t size)
{
    must(hex_lower_valid(f->digest, 64) && (f->slot[0] || f->slot[1] || f->slot[2]));
    must(memmem(data, size, "cipher_null", 11) == NULL && memmem(data, size, "capi:", 5) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header_facts f;
    struct error err = ERROR_INIT;

    mark(&f, sizeof(f));
    if (allow_metadata((const char *)data, size, &f, &err) == 0) {
        check(&f, data, size);
        return 0;
    }
    must(err.code == ERR_DATA_LOSS);
    must_be_sentence(&err);
    must_be_marked(&f, sizeof(f));
    return 0;
}
