/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Target and staging paths: a path that is accepted and opens is, in the kernel's own words, the
 * path that was given. So no link, "..", or magic link of /proc led anywhere else.
 *
 * covers: node/request.c:request_path common/fs.c:fs_open_path
 */
#include "tests/fuzz/target.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "node/request.h"

#include <limits.h>
#include <unistd.h>

static void must_be_there(const char *path)
{
    AUTO_CLOSE int fd = -1;
    struct error err = ERROR_INIT;
    char link[64], real[PATH_MAX + 1];

    if (fs_open_path(path, &fd, &err) < 0) {
        must(fd == -1);
        must_be_sentence(&err);
        return;
    }
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof(real) - 1);
    must(n > 0);
    real[n] = '\0';
    must(strcmp(real, path) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *path = strndup((const char *)data, size);
    struct error err = ERROR_INIT;

    must(path != NULL);
    if (request_path(path, "target_path", &err) < 0) {
        must(err.code == ERR_INVALID);
        must_be_sentence(&err);
        return 0;
    }
    must(path[0] == '/' && strstr(path, "//") == NULL && strstr(path, "/../") == NULL);
    must_be_there(path);
    return 0;
}
