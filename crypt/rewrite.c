/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/rewrite.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "crypt/header.h"
#include "volume/geometry.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

enum { PRIMARY, SECONDARY };

struct part {
    size_t at, len;
};

static struct part metadata(int copy)
{
    return (struct part){ (size_t)copy * GEOMETRY_METADATA_SIZE, GEOMETRY_METADATA_SIZE };
}

static struct part slot_area(unsigned slot)
{
    return (struct part){ 2u * GEOMETRY_METADATA_SIZE + slot * GEOMETRY_SLOT_SIZE,
                          GEOMETRY_SLOT_SIZE };
}

static bool differs(const char *a, const char *b, struct part p)
{
    return memcmp(a + p.at, b + p.at, p.len) != 0;
}

static int open_direct(int device_fd, int *ret, struct error *err)
{
    char path[FD_PATH_MAX];

    fd_path(device_fd, path);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, errno, "open the volume's device for direct writing");
    *ret = TAKE_FD(fd);
    return 0;
}

static int write_part(int fd, const char *area, struct part p, struct error *err)
{
    for (size_t done = 0; done < p.len;) {
        ssize_t n = pwrite(fd, area + p.at + done, p.len - done, (off_t)(p.at + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_errno(err, n < 0 ? errno : EIO,
                               "write the volume's header area at byte %zu", p.at + done);
        done += (size_t)n;
    }
    return 0;
}

static int flush(int fd, struct error *err)
{
    return fsync(fd) < 0 ? error_errno(err, errno, "flush the volume's header area") : 0;
}

static int write_slots(int fd, const char *was, const char *now, const struct header_facts *facts,
                       struct error *err)
{
    for (unsigned slot = 0; slot < GEOMETRY_SLOTS; slot++) {
        if (facts->slot[slot] && differs(was, now, slot_area(slot)) &&
            write_part(fd, now, slot_area(slot), err) < 0)
            return -1;
    }
    return flush(fd, err);
}

static int write_metadata(int fd, const char *now, bool primary_first, struct error *err)
{
    if (write_part(fd, now, metadata(primary_first ? PRIMARY : SECONDARY), err) < 0 ||
        flush(fd, err) < 0)
        return -1;
    FAULT_POINT("crypt:rewrite:one-copy");
    if (write_part(fd, now, metadata(primary_first ? SECONDARY : PRIMARY), err) < 0)
        return -1;
    FAULT_POINT("crypt:rewrite:both-copies");
    return flush(fd, err);
}

int rewrite_header(int device_fd, const struct luks *was, const struct luks *now, struct error *err)
{
    AUTO_FREE char *before = header_aligned(GEOMETRY_HEADER_READ, err);
    AUTO_FREE char *after = header_aligned(GEOMETRY_HEADER_READ, err);
    AUTO_CLOSE int fd = -1;

    if (before == NULL || after == NULL || header_memfd_read(was->memfd, before, err) < 0 ||
        header_memfd_read(now->memfd, after, err) < 0 || open_direct(device_fd, &fd, err) < 0)
        return -1;
    FAULT_POINT("crypt:rewrite:begin");
    if (write_slots(fd, before, after, &now->facts, err) < 0)
        return -1;
    FAULT_POINT("crypt:rewrite:slots");
    return write_metadata(fd, after, now->primary_stale, err);
}

static int fill_random(char *to, size_t len, struct error *err)
{
    for (size_t have = 0; have < len;) {
        ssize_t n = getrandom(to + have, len - have, 0);

        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "get random bytes");
        have += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int rewrite_unused(int device_fd, const struct header_facts *facts, struct error *err)
{
    AUTO_FREE char *area = header_aligned(GEOMETRY_HEADER_READ, err);
    AUTO_CLOSE int fd = -1;

    if (area == NULL || open_direct(device_fd, &fd, err) < 0)
        return -1;
    for (unsigned slot = 0; slot < GEOMETRY_SLOTS; slot++) {
        const struct part p = slot_area(slot);

        if (facts->slot[slot])
            continue;
        if (fill_random(area + p.at, p.len, err) < 0 || write_part(fd, area, p, err) < 0)
            return -1;
        FAULT_POINT("crypt:rewrite:wiped");
    }
    return flush(fd, err);
}
