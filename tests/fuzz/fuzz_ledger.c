/* SPDX-License-Identifier: Apache-2.0 */
/*
 * promised.json, a sparse pool's sum, which a storage administrator may write: what is accepted is
 * of this boot and fits together, anything else is counted anew.
 *
 * covers: backends/file_ledger.c:file_ledger_decode
 */
#include "tests/fuzz/target.h"

#include "backends/file_ledger.h"

#define BOOT "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct file_ledger_text t;
    struct error err = ERROR_INIT;

    mark(&t, sizeof(t));
    if (file_ledger_decode((const char *)data, size, BOOT, &t, &err) < 0) {
        must(err.code == ERR_DATA_LOSS);
        must_be_sentence(&err);
        must_be_marked(&t, sizeof(t));
        return 0;
    }
    must(t.from <= t.promised && t.promised <= INT64_MAX && t.counted <= INT64_MAX);
    must(t.volume[0] == '\0' || hex_lower_valid(t.volume, 32));
    must(memmem(data, size, BOOT, strlen(BOOT)) != NULL || memchr(data, '\\', size) != NULL);
    return 0;
}
