/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare_stage IMAGE NAME TARGET: what a stage costs at least: one warm process that attaches a loop
 * device, opens LUKS2 by libcryptsetup and mounts ext4; no gRPC, no key service, no checks. Lines
 * "up" and "down" on stdin do it and undo it; each is answered by its wall time in nanoseconds. The
 * passphrase is the first line.
 */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/error.h"

#include <fcntl.h>
#include <libcryptsetup.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

struct bare {
    const char *image, *name, *target;
    char passphrase[128];
};

static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int attach(const char *image, char path[64], int *ret, struct error *err)
{
    AUTO_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    AUTO_CLOSE int file = open(image, O_RDWR | O_CLOEXEC);
    struct loop_config c = { .fd = (uint32_t)file, .block_size = 4096 };
    int number = control < 0 || file < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);

    if (number < 0)
        return error_errno(err, errno, "find a loop device for '%s'", image);
    c.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    (void)snprintf(path, 64, "/dev/loop%d", number);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &c) < 0)
        return error_errno(err, errno, "attach '%s'", image);
    *ret = TAKE_FD(fd);
    return 0;
}

static int open_luks(const struct bare *b, const char *loop, struct error *err)
{
    struct crypt_device *cd = NULL;
    int r = crypt_init(&cd, loop);

    if (r == 0)
        r = crypt_load(cd, CRYPT_LUKS2, NULL);
    if (r == 0)
        r = crypt_activate_by_passphrase(cd, b->name, CRYPT_ANY_SLOT, b->passphrase,
                                         strlen(b->passphrase), 0);
    crypt_free(cd);
    return r < 0 ? error_errno(err, -r, "open '%s'", b->image) : 0;
}

static int up(const struct bare *b, struct error *err)
{
    AUTO_CLOSE int fd = -1;
    char loop[64], device[128];

    if (attach(b->image, loop, &fd, err) < 0 || open_luks(b, loop, err) < 0)
        return -1;
    (void)snprintf(device, sizeof(device), "/dev/mapper/%s", b->name);
    if (mount(device, b->target, "ext4", MS_NODEV | MS_NOSUID, "") < 0)
        return error_errno(err, errno, "mount '%s'", device);
    return 0;
}

static int down(const struct bare *b, struct error *err)
{
    int r;

    if (umount(b->target) < 0)
        return error_errno(err, errno, "unmount '%s'", b->target);
    struct crypt_device *cd = NULL;
    r = crypt_init_by_name(&cd, b->name);
    if (r == 0)
        r = crypt_deactivate(cd, b->name);
    crypt_free(cd);
    return r < 0 ? error_errno(err, -r, "close '%s'", b->name) : 0;
}

static int serve(struct bare *b, struct error *err)
{
    char line[128];

    if (fgets(b->passphrase, sizeof(b->passphrase), stdin) == NULL)
        return error_set(err, ERR_INVALID, "no passphrase on stdin");
    b->passphrase[strcspn(b->passphrase, "\n")] = '\0';
    while (fgets(line, sizeof(line), stdin) != NULL) {
        uint64_t start = now_ns();
        if ((strcmp(line, "up\n") == 0 ? up(b, err) : down(b, err)) < 0)
            return -1;
        (void)printf("%llu\n", (unsigned long long)(now_ns() - start));
        (void)fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    struct bare b = { .image = NULL };

    if (argc != 4) {
        (void)fprintf(stderr, "usage: bare_stage IMAGE NAME TARGET\n");
        return 2;
    }
    b.image = argv[1];
    b.name = argv[2];
    b.target = argv[3];
    if (serve(&b, &err) == 0)
        return 0;
    (void)fprintf(stderr, "bare_stage: %s\n", err.msg);
    return 1;
}
