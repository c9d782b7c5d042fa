/* SPDX-License-Identifier: Apache-2.0 */
/* The allowlist for LUKS2 metadata: any bytes; what it accepts must be what Coffer makes. */
#include "common/base.h"
#include "crypt/allow.h"

#include "common/parse.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header_facts f;
    struct error err = ERROR_INIT;

    if (allow_metadata((const char *)data, size, &f, &err) < 0) {
        if (err.code != ERR_DATA_LOSS || err.msg[0] == '\0')
            abort();
        return 0;
    }
    if (!hex_lower_valid(f.digest, 64) || !(f.slot[0] || f.slot[1] || f.slot[2]))
        abort();
    if (memmem(data, size, "cipher_null", 11) != NULL)
        abort();
    return 0;
}
