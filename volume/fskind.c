/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/fskind.h"

#include "volume/geometry.h"

/* Measured with Debian 12's mkfs and kernel on 4096-byte sectors:
 * xfs: below 300 MiB mkfs.xfs 6.1 refuses by itself (a log of 64 MiB is its least); 236 MiB are
 * left for data. btrfs: mkfs.btrfs 6.2 makes 109 MiB and more, but the kernel resizes nothing to
 * less than 256 MiB (EINVAL), so a smaller volume could not follow each growth of its image.
 * ext4 has a journal from 8 MiB on; 16 MiB are the smallest volume of any kind. */
#define XFS_SIZE_MIN   MIB(300)
#define BTRFS_SIZE_MIN MIB(256)

static const char *const compressions[] = { "zlib", "lzo", "zstd", NULL };

static const struct fs_option ext4_options[] = {
    { .key = "commit", .min = 1, .max = 300 },
};

static const struct fs_option btrfs_options[] = {
    { .key = "commit", .min = 1, .max = 300 },
    { .key = "compress", .words = compressions },
};

_Static_assert(ARRAY_SIZE(btrfs_options) <= FS_OPTIONS_MAX, "capability.c keeps that many");

static const struct fs_kind kinds[] = {
    { "ext4", GEOMETRY_SIZE_MIN, ext4_options, ARRAY_SIZE(ext4_options) },
    { "xfs", XFS_SIZE_MIN, NULL, 0 },
    { "btrfs", BTRFS_SIZE_MIN, btrfs_options, ARRAY_SIZE(btrfs_options) },
    { FS_KIND_NONE, GEOMETRY_SIZE_MIN, NULL, 0 },
};

const struct fs_kind *fs_kind_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}
