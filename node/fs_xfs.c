/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <sys/ioctl.h>

#define PACKAGE "xfsprogs"

/* struct xfs_dsb, big-endian (xfs_format.h) */
#define SUPER_LEN      512u
#define AT_BLOCK_SIZE  4
#define AT_BLOCKS      8
#define BLOCK_SIZE_MAX 65536u
/* A new one has 4 to 32; so many seeks end in time on a slow disk. */
#define GROUPS_LOOKED_AT 1024u

/* xfs_fs.h, which is no kernel header: two calls of a stable interface are cheaper than a package.
 */
struct xfs_geometry_v1 {
    __u32 blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct;
    __u64 datablocks, rtblocks, rtextents, logstart;
    unsigned char uuid[16];
    __u32 sunit, swidth;
    __s32 version;
    __u32 flags, logsectsize, rtsectsize, dirblocksize;
};
struct xfs_grow_data {
    __u64 newblocks;
    __u32 imaxpct;
};
#define XFS_GEOMETRY_V1 _IOR('X', 100, struct xfs_geometry_v1)
#define XFS_GROW_DATA   _IOW('X', 110, struct xfs_grow_data)
_Static_assert(sizeof(struct xfs_geometry_v1) == 112 && sizeof(struct xfs_grow_data) == 16,
               "the kernel's layout");

/* Features are named, so that a newer mkfs makes what an older node's kernel mounts (all of them
 * are in Linux 5.10 and in Debian 12's defaults). crc=1 also lets a clone get a uuid of its own
 * later (the header keeps the old one as its metadata uuid). -K: no discard, the image is reserved
 * space. -f: what dm-crypt makes of unwritten sectors is noise, and noise may look like anything.
 */
static int xfs_make(const struct fs_device *d, struct error *err)
{
    const char *const argv[] = { "/sbin/mkfs.xfs",
                                 "-q",
                                 "-f",
                                 "-K",
                                 "-s",
                                 "size=4096",
                                 "-b",
                                 "size=4096",
                                 "-m",
                                 "crc=1,finobt=1,inobtcount=1,bigtime=1,reflink=1,rmapbt=0",
                                 "-i",
                                 "sparse=1,nrext64=0",
                                 d->path,
                                 NULL };

    return filesystem_run_ok(argv, PACKAGE, d->lock_fd, FILESYSTEM_MAKE_MS, err);
}

/* Only reads: the log is replayed by the mount (also by a read-only one: its mapping is writable),
 * and xfs_repair is never run from here, since on a log that can't be replayed it throws it away.
 * What else may be wrong with the superblock, its checksum first of all, the mount looks at. */
static int xfs_check(const struct fs_device *d, struct error *err)
{
    unsigned char sb[SUPER_LEN];

    if (filesystem_read(d->fd, sb, sizeof(sb), 0, err) < 0)
        return -1;
    uint64_t block = fs_be32(sb + AT_BLOCK_SIZE), blocks = fs_be64(sb + AT_BLOCKS);
    if (memcmp(sb, "XFSB", 4) != 0 || block == 0 || block > BLOCK_SIZE_MAX ||
        blocks > UINT64_MAX / BLOCK_SIZE_MAX)
        return error_set(err, ERR_DATA_LOSS, "the xfs superblock is not one");
    return filesystem_fits(d, block * blocks, err);
}

static int geometry(int mount_fd, struct xfs_geometry_v1 *ret, struct error *err)
{
    if (ioctl(mount_fd, XFS_GEOMETRY_V1, ret) < 0)
        return error_errno(err, errno, "ask xfs for its geometry");
    return 0;
}

/* What the superblock of a later allocation group says. One that is none, or can't be read, says
 * nothing: it keeps nobody from his data, and is xfs_repair's business. */
static uint64_t secondary_blocks(const struct fs_device *d, uint64_t at, uint64_t otherwise)
{
    struct error ignored = ERROR_INIT;
    unsigned char sb[SUPER_LEN];

    /* xfs writes past the device's cache */
    (void)posix_fadvise(d->fd, (off_t)at, BLOCK_SIZE_MAX, POSIX_FADV_DONTNEED);
    if (filesystem_read(d->fd, sb, sizeof(sb), at, &ignored) < 0 || memcmp(sb, "XFSB", 4) != 0)
        return otherwise;
    return fs_be64(sb + AT_BLOCKS);
}

/* The smallest that one of its superblocks says. The kernel writes the secondary ones behind a
 * growth that is committed, and flushes nothing: after a power cut they may have the old size.
 * xfs_repair takes that for damage, and xfs_growfs finds nothing to do. The ioctl writes them all.
 */
static int xfs_size(const struct fs_device *d, int mount_fd, uint64_t *ret, struct error *err)
{
    struct xfs_geometry_v1 g = { .blocksize = 0 };

    if (geometry(mount_fd, &g, err) < 0)
        return -1;
    uint64_t least = g.datablocks;
    for (uint32_t group = 1; group < g.agcount && group < GROUPS_LOOKED_AT; group++) {
        uint64_t at = (uint64_t)group * g.agblocks * g.blocksize;
        uint64_t blocks = secondary_blocks(d, at, g.datablocks);
        least = blocks < least ? blocks : least;
    }
    *ret = least * g.blocksize;
    return 0;
}

/* By ioctl, not xfs_growfs: that looks a path up in the mount table, this has the mount open. */
static int xfs_grow(const struct fs_device *d UNUSED, int mount_fd, uint64_t bytes,
                    struct error *err)
{
    struct xfs_geometry_v1 g = { .blocksize = 0 };

    if (geometry(mount_fd, &g, err) < 0)
        return -1;
    struct xfs_grow_data grow = { .newblocks = bytes / g.blocksize, .imaxpct = g.imaxpct };
    if (ioctl(mount_fd, XFS_GROW_DATA, &grow) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return error_set(err, ERR_ABORTED, "somebody else is growing the xfs");
    return error_errno(err, errno, "grow the xfs to %llu bytes", (unsigned long long)bytes);
}

/* nouuid: xfs refuses a second file system with the uuid of one that is mounted. A clone and its
 * source have the same one, and so has the mount that another container's namespace still keeps of
 * this very volume. Which volume this is was proved before, and not by a uuid on its disk. */
const struct filesystem filesystem_xfs = {
    .name = "xfs",
    .mount_type = "xfs",
    .mount_data = "nouuid",
    .mount_sparse = "",
    .mount_discard = "discard",
    .look = "xfs_repair -n",
    .advice = "That only looks; without -n it repairs",
    .make = xfs_make,
    .check = xfs_check,
    .device = filesystem_plain_device,
    .size = xfs_size,
    .grow = xfs_grow,
};
