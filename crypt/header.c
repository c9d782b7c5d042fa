/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/header.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "crypt/content.h"
#include "volume/geometry.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN 4096u

void fd_path(int fd, char ret[FD_PATH_MAX])
{
    (void)snprintf(ret, FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

int header_read_direct(int fd, void *to, size_t len, struct error *err)
{
    char path[FD_PATH_MAX];
    AUTO_CLOSE int direct = -1;
    size_t have = 0;

    fd_path(fd, path);
    direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (direct < 0)
        return error_errno(err, errno, "open the volume's device for direct reading");
    while (have < len) {
        ssize_t n = pread(direct, (char *)to + have, len - have, (off_t)have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read the volume's header area at byte %zu", have);
        if (n == 0)
            return error_set(err, ERR_DATA_LOSS,
                             "the volume's device ends after %zu bytes, inside the header", have);
        have += (size_t)n;
    }
    return 0;
}

void *header_aligned(size_t len, struct error *err)
{
    void *p = aligned_alloc(ALIGN, len);

    if (p == NULL)
        (void)error_memory(err);
    return p;
}

static int write_at_zero(int fd, const char *from, size_t len, struct error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, from + done, len - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "copy the header into memory");
        done += (size_t)n;
    }
    return 0;
}

/* Not sealed. */
static int make_memfd(const void *area, size_t len, int *ret, struct error *err)
{
    AUTO_CLOSE int fd = memfd_create("luks2-header", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, (off_t)GEOMETRY_DATA_OFFSET) < 0)
        return error_errno(err, errno, "make a memfd for the header");
    if (write_at_zero(fd, area, len, err) < 0)
        return -1;
    *ret = TAKE_FD(fd);
    return 0;
}

int header_memfd_seal(int memfd, struct error *err)
{
    if (fcntl(memfd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return error_errno(err, errno, "seal the header's copy");
    return 0;
}

int header_memfd(const void *area, size_t len, int *ret, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (make_memfd(area, len, &fd, err) < 0 || header_memfd_seal(fd, err) < 0)
        return -1;
    *ret = TAKE_FD(fd);
    return 0;
}

int header_memfd_read(int memfd, void *to, struct error *err)
{
    for (size_t have = 0; have < GEOMETRY_HEADER_READ;) {
        ssize_t n = pread(memfd, (char *)to + have, GEOMETRY_HEADER_READ - have, (off_t)have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO, "read the header's copy");
        have += (size_t)n;
    }
    return 0;
}

static int make_length(int fd, size_t len, struct error *err)
{
    if (ftruncate(fd, (off_t)len) < 0)
        return error_errno(err, errno, "make the header's backup %zu bytes long", len);
    return 0;
}

static int flush(int fd, struct error *err)
{
    return fsync(fd) < 0 ? error_errno(err, errno, "flush the header's backup") : 0;
}

int header_memfd_save(int memfd, int to, struct error *err)
{
    AUTO_FREE char *area = header_aligned(GEOMETRY_HEADER_READ, err);

    /* not to nothing: the blocks that an earlier one's keyslots lie in would be somebody else's,
     * and nobody would ever overwrite them */
    if (area == NULL || header_memfd_read(memfd, area, err) < 0 ||
        make_length(to, GEOMETRY_HEADER_READ, err) < 0 || flush(to, err) < 0)
        return -1;
    if (lseek(to, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "begin the header's backup");
    if (fs_write_all(to, area, GEOMETRY_HEADER_READ, "the header's backup", err) < 0 ||
        flush(to, err) < 0 || make_length(to, GEOMETRY_DATA_OFFSET, err) < 0)
        return -1;
    return flush(to, err);
}

int header_memfd_copy(int memfd, int *ret, struct error *err)
{
    AUTO_FREE char *copy = header_aligned(GEOMETRY_HEADER_READ, err);

    if (copy == NULL || header_memfd_read(memfd, copy, err) < 0)
        return -1;
    return make_memfd(copy, GEOMETRY_HEADER_READ, ret, err);
}

int header_seal(int device_fd, int *ret_memfd, struct error *err)
{
    AUTO_FREE char *copy = header_aligned(GEOMETRY_HEADER_READ, err);

    if (copy == NULL || header_read_direct(device_fd, copy, GEOMETRY_HEADER_READ, err) < 0)
        return -1;
    return header_memfd(copy, GEOMETRY_HEADER_READ, ret_memfd, err);
}

/* --- may it be formatted? --- */

static size_t first_nonzero(const unsigned char *area, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (area[i] != 0)
            return i;
    }
    return len;
}

static int refuse_content(const void *area, size_t at, struct error *err)
{
    char kind[64];

    if (content_name(area, GEOMETRY_DATA_OFFSET, false, kind, err) < 0)
        return -1;
    if (kind[0] != '\0')
        return error_set(
            err, ERR_DATA_LOSS,
            "the volume is new, but its device already holds data (%s): it is not formatted", kind);
    return error_set(
        err, ERR_DATA_LOSS,
        "the volume is new, but its device isn't blank at byte %zu: it is not formatted", at);
}

/* A LUKS header's fixed part (LUKS2 on-disk format §2.1): magic, version (big-endian), … uuid. */
struct luks_binary {
    unsigned char magic[6];
    unsigned char version[2];
    unsigned char skipped[160];
    char uuid[40];
} __attribute__((packed));

static bool is_luks(const struct luks_binary *h)
{
    return memcmp(h->magic, "LUKS\xba\xbe", 6) == 0 || memcmp(h->magic, "SKUL\xba\xbe", 6) == 0;
}

/* Every place where libcryptsetup would look for a header: 0, and the secondary's offsets 16 KiB ..
 * 4 MiB. */
static int refuse_other_uuid(const unsigned char *area, const char *uuid, struct error *err)
{
    for (size_t at = 0; at < GEOMETRY_DATA_OFFSET; at = at == 0 ? GEOMETRY_METADATA_SIZE : 2 * at) {
        const struct luks_binary *h = (const void *)(area + at);
        size_t n = strnlen(h->uuid, sizeof(h->uuid));
        bool version_2 = h->version[0] == 0 && h->version[1] == 2;

        if (!is_luks(h) || (version_2 && n == strlen(uuid) && memcmp(h->uuid, uuid, n) == 0))
            continue;
        return error_set(
            err, ERR_DATA_LOSS,
            "the device holds a LUKS%s header of another volume at byte %zu: it is not formatted",
            version_2 ? "2" : "", at);
    }
    return 0;
}

int header_may_format(int device_fd, const char *uuid, enum record_state stored_state,
                      struct error *err)
{
    AUTO_FREE unsigned char *area = header_aligned(GEOMETRY_DATA_OFFSET, err);
    char kind[64];
    size_t at;

    if (stored_state != RECORD_NEW && stored_state != RECORD_FORMATTING)
        return error_set(err, ERR_PRECONDITION,
                         "a volume whose record says '%s' is never formatted",
                         record_state_name(stored_state));
    if (area == NULL || header_read_direct(device_fd, area, GEOMETRY_DATA_OFFSET, err) < 0)
        return -1;
    at = first_nonzero(area, GEOMETRY_DATA_OFFSET);
    if (at == GEOMETRY_DATA_OFFSET)
        return 0;
    if (stored_state == RECORD_NEW)
        return refuse_content(area, at, err);
    if (refuse_other_uuid(area, uuid, err) < 0 ||
        content_name(area, GEOMETRY_DATA_OFFSET, true, kind, err) < 0)
        return -1;
    if (kind[0] != '\0')
        return error_set(err, ERR_DATA_LOSS,
                         "the device holds foreign data (%s): it is not formatted", kind);
    return 0;
}
