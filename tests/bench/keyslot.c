/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyslot FILE N: makes FILE a Coffer volume's header, opens its keyslot N times by the code that
 * coffer-crypt uses, and prints the CPU time of these in nanoseconds. The passphrase is made up.
 */
#include "common/base.h"

#include "common/cleanup.h"
#include "common/parse.h"
#include "crypt/luks.h"
#include "volume/geometry.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define UUID "0a1b2c3d-4e5f-4607-8899-aabbccddeeff"

static uint64_t cpu_now(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int open_once(int fd, const struct secret *passphrase, struct error *err)
{
    AUTO_LUKS struct luks l = LUKS_INIT;

    if (luks_load(fd, UUID, NULL, &l, err) < 0)
        return -1;
    return luks_verify(&l, passphrase, err);
}

static int run(const char *path, uint64_t n, struct error *err)
{
    AUTO_SECRET struct secret *passphrase = secret_new(64, err);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint64_t start;

    if (passphrase == NULL || luks_setup(err) < 0)
        return -1;
    memset(secret_bytes(passphrase), 'a', 64);
    secret_set_len(passphrase, 64);
    if (fd < 0 || ftruncate(fd, (off_t)(GEOMETRY_DATA_OFFSET + MIB(1))) < 0)
        return error_errno(err, errno, "make '%s'", path);
    if (luks_format(path, UUID, passphrase, err) < 0)
        return -1;
    start = cpu_now();
    for (uint64_t i = 0; i < n; i++)
        if (open_once(fd, passphrase, err) < 0)
            return -1;
    (void)printf("%llu\n", (unsigned long long)(cpu_now() - start));
    return 0;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    uint64_t n;

    if (argc != 3 || parse_u64(argv[2], &n) < 0) {
        (void)fprintf(stderr, "usage: keyslot FILE N\n");
        return 2;
    }
    if (run(argv[1], n, &err) == 0)
        return 0;
    (void)fprintf(stderr, "keyslot: %s\n", err.msg);
    return 1;
}
