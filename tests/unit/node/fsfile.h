/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsfile.h: a file system in a sparse file, made by the row itself with the real mkfs: all that a
 * row does without a mount works on it.
 */
#ifndef COFFER_TESTS_UNIT_NODE_FSFILE_H
#define COFFER_TESTS_UNIT_NODE_FSFILE_H

#include "node/filesystem.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <unistd.h>

struct fs_file {
    struct tmpdir dir;
    struct fs_device d;
};

/* Skips the test when the mkfs isn't installed. */
static inline struct fs_file fs_file_make(const struct filesystem *fs, const char *mkfs,
                                          uint64_t bytes)
{
    static char path[600];
    struct fs_file f;

    if (access(mkfs, X_OK) < 0) {
        (void)snprintf(path, sizeof(path), "%s is not installed", mkfs);
        skip_because(path);
    }
    f.dir = tmpdir_make();
    (void)snprintf(path, sizeof(path), "%s", tmpdir_path(&f.dir, "image"));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    f.d = (struct fs_device){ .path = path, .fd = fd, .lock_fd = fd };
    assert_works(fs->make(&f.d, &err));
    return f;
}

static inline void fs_file_remove(struct fs_file *f)
{
    (void)close(f->d.fd);
    tmpdir_remove(&f->dir);
}
#define AUTO_FS_FILE __attribute__((cleanup(fs_file_remove)))

static inline void fs_file_put(const struct fs_file *f, uint64_t at, const void *data, size_t len)
{
    assert_int_equal(pwrite(f->d.fd, data, len, (off_t)at), len);
}

/* Turns one bit, so that the second call turns it back. */
static inline void fs_file_flip(const struct fs_file *f, uint64_t at)
{
    unsigned char c;

    assert_int_equal(pread(f->d.fd, &c, 1, (off_t)at), 1);
    c ^= 1;
    fs_file_put(f, at, &c, 1);
}

/* The check must refuse with DATA_LOSS and a word, and leave every byte of the first MiB alone. */
static inline void fs_file_refused(const struct fs_file *f, const struct filesystem *fs,
                                   const char *word)
{
    static unsigned char before[MIB(1)], after[MIB(1)];
    struct error err = ERROR_INIT;

    assert_int_equal(pread(f->d.fd, before, sizeof(before), 0), sizeof(before));
    assert_int_equal(fs->check(&f->d, &err), -1);
    if (err.code != ERR_DATA_LOSS || strstr(err.msg, word) == NULL)
        fail_msg("%s: %s, not '%s'", error_code_name(err.code), err.msg, word);
    assert_int_equal(pread(f->d.fd, after, sizeof(after), 0), sizeof(after));
    assert_memory_equal(before, after, sizeof(before));
}

#endif
