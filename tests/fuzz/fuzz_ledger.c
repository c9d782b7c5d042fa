/* SPDX-License-Identifier: Apache-2.0 */
/* A sparse pool's ledger, which lies where the storage administrator writes: what is accepted fits
 * together. */
#include "common/base.h"
#include "backends/file_ledger.h"

#define BOOT "123e4567-e89b-42d3-a456-426614174000"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct file_ledger_text t = { .volume = "untouched" };
    struct error err = ERROR_INIT;

    if (file_ledger_decode((const char *)data, size, BOOT, &t, &err) < 0) {
        must(err.code == ERR_DATA_LOSS && err.msg[0] != '\0');
        must(strcmp(t.volume, "untouched") == 0);
        return 0;
    }
    must(t.from <= t.promised);
    must(t.volume[0] == '\0' || strlen(t.volume) == 32);
    return 0;
}
