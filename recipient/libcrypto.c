/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "recipient/libcrypto.h"

#include "common/wipe.h"

#include <openssl/err.h>

void libcrypto_watch(void)
{
    ERR_clear_error();
    wipe_watch();
}

int libcrypto_end(int rc, struct error *err)
{
    bool lacked = wipe_lacked();
    unsigned long e;

    while ((e = ERR_get_error()) != 0)
        lacked |= ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE;
    if (rc >= 0)
        return rc;
    if (lacked)
        return error_memory(err);
    if (!wipe_ever_lacked())
        return rc;
    (void)error_recode(err, ERR_UNAVAILABLE);
    return error_prefix(err, "memory lacked before, libcrypto may be wrong");
}

int libcrypto_no_passphrase(char *buf UNUSED, int size UNUSED, int writing UNUSED, void *ctx UNUSED)
{
    return -1;
}
