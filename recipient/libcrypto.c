/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "recipient/libcrypto.h"

#include <openssl/err.h>

bool libcrypto_no_memory(void)
{
    bool found = false;
    unsigned long e;

    while ((e = ERR_get_error()) != 0)
        found |= ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
    return found;
}

int libcrypto_error(struct error *err, enum error_code code, const char *what)
{
    return libcrypto_no_memory() ? error_memory(err) : error_set(err, code, "%s", what);
}
