/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c: gives a fuzz target every file of the folders named on the command line, each in an
 * allocation of its own size, so that AddressSanitizer sees a read past the end. One TAP line; the
 * file is named before it is used, so a crash's output ends with the culprit. `make check` runs it;
 * `make fuzz` has libFuzzer in its place.
 */
#include "common/base.h"
#include "tests/fuzz/target.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int fail(const char *path, const char *what)
{
    printf("not ok 1 - %s: %s\n", path, what);
    return -1;
}

static int replay_file(const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    size_t size;

    if (f == NULL || fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode))
        return fail(path, "is not a readable file");
    size = (size_t)st.st_size;
    data = malloc(size > 0 ? size : 1);
    if (data == NULL || fread(data, 1, size, f) != size)
        return fail(path, "cannot be read whole");
    fclose(f);
    printf("# %s\n", path);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

static int not_hidden(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* Returns how many files there were, -1 on failure. */
static int replay_folder(const char *folder)
{
    struct dirent **entries;
    char path[4096];
    int n = scandir(folder, &entries, not_hidden, alphasort);

    if (n < 0)
        return fail(folder, "is not a readable folder");
    for (int i = 0; i < n; i++) {
        if (snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name) >= (int)sizeof(path))
            return fail(folder, "holds a name that is too long");
        if (replay_file(path) < 0)
            return -1;
        free(entries[i]);
    }
    free(entries);
    return n;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        int n = replay_folder(argv[i]);
        if (n < 0)
            return 1;
        total += n;
    }
    if (total == 0) {
        printf("not ok 1 - %s: there is no input to replay\n", argv[0]);
        return 1;
    }
    printf("1..1\nok 1 - %d inputs replayed\n", total);
    return 0;
}
