/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/content.h"

#include "common/cleanup.h"
#include "crypt/header.h"

#include <blkid/blkid.h>
#include <errno.h>

static void cleanup_probe(blkid_probe *p)
{
    blkid_free_probe(*p);
}
#define AUTO_PROBE __attribute__((cleanup(cleanup_probe)))

static bool prepare(blkid_probe p, int fd)
{
    return blkid_probe_set_device(p, fd, 0, 0) == 0 && blkid_probe_enable_superblocks(p, 1) == 0 &&
           blkid_probe_set_superblocks_flags(p, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_BADCSUM) == 0 &&
           blkid_probe_enable_partitions(p, 1) == 0;
}

/* What this step of the probe found; "" when it is to be passed over. */
static void describe(blkid_probe p, bool except_luks, char ret[64])
{
    const char *type = NULL, *table = NULL;

    ret[0] = '\0';
    if (blkid_probe_lookup_value(p, "TYPE", &type, NULL) == 0) {
        if (!except_luks || strcmp(type, "crypto_LUKS") != 0)
            (void)snprintf(ret, 64, "%.40s", type);
    } else if (blkid_probe_lookup_value(p, "PTTYPE", &table, NULL) == 0) {
        (void)snprintf(ret, 64, "%.40s partition table", table);
    }
}

int content_name(const void *area, size_t len, bool except_luks, char ret[64], struct error *err)
{
    AUTO_CLOSE int fd = -1;
    AUTO_PROBE blkid_probe p = blkid_new_probe();
    char kind[64] = "";
    int r = 0;

    /* libblkid wants a file: give it the copy, so that it sees what was judged and not a second
     * read */
    if (header_memfd(area, len, &fd, err) < 0)
        return -1;
    if (p == NULL || !prepare(p, fd))
        return error_set(err, ERR_INTERNAL, "libblkid can't look at the volume's header area");
    errno = 0;
    while (kind[0] == '\0' && (r = blkid_do_probe(p)) == 0)
        describe(p, except_luks, kind);
    if (r < 0)
        return error_errno(err, errno != 0 ? errno : EIO,
                           "look for known content in the volume's header area");
    memcpy(ret, kind, sizeof(kind));
    return 0;
}
