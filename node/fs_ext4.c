/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "node/filesystem.h"

#include "common/cleanup.h"
#include "common/proc.h"
#include "node/mounts.h"

#define PACKAGE "e2fsprogs"

/* linux/Documentation/filesystems/ext4, "Super Block" */
#define SUPER_AT       1024u
#define SUPER_LEN      1024u
#define AT_BLOCKS_LOW  0x004
#define AT_BLOCK_SHIFT 0x018
#define AT_MAGIC       0x038
#define AT_STATE       0x03a
#define AT_INCOMPAT    0x060
#define AT_RO_COMPAT   0x064
#define AT_BLOCKS_HIGH 0x150
#define AT_CHECKSUM    0x3fc
#define STATE_ERROR    0x02u /* the kernel met an error: e2fsck looks at everything */
#define RECOVER        0x04u
#define METADATA_CSUM  0x400u

/* metadata_csum_seed lets a clone get a uuid of its own later; both it and metadata_csum are named,
 * since /etc/mke2fs.conf may say otherwise. No discard: the image is reserved space.
 * lazy_itable_init=0 would write every table now, and the volume is all zeros behind dm-crypt's
 * noise. */
static int ext4_make(const struct fs_device *d, struct error *err)
{
    const char *const argv[] = {
        "/sbin/mkfs.ext4", "-q",    "-F", "-m", "0", "-O", "metadata_csum,metadata_csum_seed", "-E",
        "nodiscard",       d->path, NULL
    };

    return filesystem_run_ok(argv, PACKAGE, d->lock_fd, FILESYSTEM_MAKE_MS, err);
}

/* CRC-32C (Castagnoli), reflected, as ext4 uses it: no final inversion. */
static uint32_t crc32c(const unsigned char *p, size_t len)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
    }
    return crc;
}

static bool checksum_right(const unsigned char sb[SUPER_LEN])
{
    return (fs_le32(sb + AT_RO_COMPAT) & METADATA_CSUM) == 0 ||
           crc32c(sb, AT_CHECKSUM) == fs_le32(sb + AT_CHECKSUM);
}

static int read_super(const struct fs_device *d, unsigned char sb[SUPER_LEN], struct error *err)
{
    if (filesystem_read(d->fd, sb, SUPER_LEN, SUPER_AT, err) < 0)
        return -1;
    if (sb[AT_MAGIC] != 0x53 || sb[AT_MAGIC + 1] != 0xef || fs_le32(sb + AT_BLOCK_SHIFT) > 6)
        return error_set(err, ERR_DATA_LOSS, "the ext4 superblock is not one");
    return 0;
}

static uint64_t super_bytes(const unsigned char sb[SUPER_LEN])
{
    uint64_t blocks = (uint64_t)fs_le32(sb + AT_BLOCKS_HIGH) << 32 | fs_le32(sb + AT_BLOCKS_LOW);

    return blocks * (1024ull << fs_le32(sb + AT_BLOCK_SHIFT));
}

/* The kernel replays the journal, and keeps it when a block of it can't be written. e2fsck would
 * replay it as well, but it empties the journal whatever became of the writes (e2fsprogs 1.47,
 * recover_ext3_journal): on a full sparse pool that destroys what was flushed. Read-only: nothing
 * but the journal is looked at. */
static int replay(const struct fs_device *d, const unsigned char sb[SUPER_LEN], struct error *err)
{
    const struct mount_options options = { .read_only = true, .data = "errors=remount-ro" };
    AUTO_CLOSE int mount_fd = -1;

    if ((fs_le32(sb + AT_INCOMPAT) & RECOVER) == 0 ||
        mount_make("ext4", d->path, &options, &mount_fd, err) == 0)
        return 0;
    (void)error_prefix(err, "replay the journal");
    return filesystem_is_damage(err->sys_errno) ? error_recode(err, ERR_DATA_LOSS) : -1;
}

/* e2fsck -p repairs what is safe. It would also take a backup superblock when the first one is bad,
 * and write that over it, without asking: so that is looked at before. */
static int ready_for_check(const struct fs_device *d, struct error *err)
{
    unsigned char sb[SUPER_LEN];

    if (read_super(d, sb, err) < 0)
        return -1;
    if (!checksum_right(sb))
        return error_set(err, ERR_DATA_LOSS, "the ext4 superblock's checksum is wrong");
    if (filesystem_fits(d, super_bytes(sb), err) < 0 || replay(d, sb, err) < 0 ||
        read_super(d, sb, err) < 0)
        return -1;
    if (d->no_space && (sb[AT_STATE] & STATE_ERROR) != 0)
        return error_set(err, ERR_EXHAUSTED,
                         "the kernel met errors in the file system, and e2fsck can't repair them "
                         "where its writes may be lost");
    return 0;
}

static int ext4_check(const struct fs_device *d, struct error *err)
{
    AUTO_PROC_RESULT struct proc_result r = { .exit_code = -1 };
    const char *const argv[] = { "/sbin/e2fsck", "-p", d->path, NULL };

    if (ready_for_check(d, err) < 0 ||
        filesystem_run(argv, PACKAGE, d->lock_fd, FILESYSTEM_CHECK_MS, &r, err) < 0)
        return -1;
    if (r.exit_code >= 0 && r.exit_code <= 3) /* e2fsck(8): clean, or corrected */
        return 0;
    /* 4: errors are left, and standard output names them. More, or a signal: it couldn't do its
     * work, which says nothing of the data. */
    bool damaged = r.exit_code >= 4 && r.exit_code < 8;
    if (damaged)
        filesystem_keep_output(&r);
    return error_set(err, damaged ? ERR_DATA_LOSS : ERR_INTERNAL,
                     "e2fsck -p won't repair the file system by itself (exit %d, signal %d): %s",
                     r.exit_code, r.signal, r.last_line);
}

/* The kernel's superblock is in the page cache that this reads. */
static int ext4_size(const struct fs_device *d, int mount_fd UNUSED, uint64_t *ret,
                     struct error *err)
{
    unsigned char sb[SUPER_LEN];

    if (read_super(d, sb, err) < 0)
        return -1;
    *ret = super_bytes(sb);
    return 0;
}

/* resize2fs: on a mounted file system it asks the kernel, with what older kernels lack worked
 * around. */
static int ext4_grow(const struct fs_device *d, int mount_fd UNUSED, uint64_t bytes UNUSED,
                     struct error *err)
{
    const char *const argv[] = { "/sbin/resize2fs", d->path, NULL };

    return filesystem_run_ok(argv, PACKAGE, d->lock_fd, FILESYSTEM_GROW_MS, err);
}

const struct filesystem filesystem_ext4 = {
    .name = "ext4",
    .mount_type = "ext4",
    .mount_data = "errors=remount-ro",
    .mount_sparse = "noinit_itable", /* zeroing all inode tables would take 1.6 % of the size */
    .mount_discard = "discard",
    .look = "e2fsck -f",
    .advice = "",
    .make = ext4_make,
    .check = ext4_check,
    .device = filesystem_plain_device,
    .size = ext4_size,
    .grow = ext4_grow,
};
