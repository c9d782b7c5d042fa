/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/fs.h"

#include "common/cleanup.h"
#include "tests/support/tmpdir.h"
#include "tests/support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The sentence is this form with the directory's path in it. */
#define assert_fails_in(t, call, code, form)                           \
    do {                                                               \
        char sentence_[1024];                                          \
        (void)snprintf(sentence_, sizeof(sentence_), form, (t)->path); \
        assert_fails(call, code, sentence_);                           \
    } while (0)

static void test_open_dir(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    int fd = -1;

    assert_works(fs_open_dir(t.path, &fd, &err));
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    (void)close(fd);
    fd = -1;
    tmpdir_write(&t, "file", "x", 1);
    assert_int_equal(symlinkat(t.path, t.fd, "link"), 0);
    assert_fails_in(&t, fs_open_dir(tmpdir_path(&t, "gone"), &fd, &err), ERR_NOT_FOUND,
                    "open directory '%s/gone': No such file or directory");
    assert_fails_in(&t, fs_open_dir(tmpdir_path(&t, "file"), &fd, &err), ERR_INTERNAL,
                    "open directory '%s/file': Not a directory");
    assert_fails_in(&t, fs_open_dir(tmpdir_path(&t, "link"), &fd, &err), ERR_INTERNAL,
                    "open directory '%s/link': Not a directory");
    assert_int_equal(fd, -1);
}

static void test_read(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(100);

    tmpdir_write(&t, "ten", "0123456789", 10);
    strbuf_adds(&sb, "before ");
    assert_works(fs_read_at(t.fd, "ten", 10, &sb, &err));
    assert_string_equal(strbuf_text(&sb), "before 0123456789");
    assert_fails_in(&t, fs_read_at(t.fd, "ten", 9, &sb, &err), ERR_DATA_LOSS,
                    "'%s/ten' is longer than 9 bytes");
    assert_string_equal(strbuf_text(&sb), "before 0123456789"); /* nothing half read stays */
    assert_fails_in(&t, fs_read_at(t.fd, "gone", 9, &sb, &err), ERR_NOT_FOUND,
                    "open '%s/gone': No such file or directory");
    assert_works(fs_read_at(AT_FDCWD, tmpdir_path(&t, "ten"), 10, &sb, &err));
    assert_int_equal(symlinkat("ten", t.fd, "link"), 0);
    assert_fails_in(&t, fs_read_at(t.fd, "link", 10, &sb, &err), ERR_INTERNAL,
                    "open '%s/link': Too many levels of symbolic links");
    assert_works(fs_read_path(tmpdir_path(&t, "link"), 10, &sb, &err));

    AUTO_STRBUF struct strbuf tiny = STRBUF_INIT(4);

    assert_fails_in(&t, fs_read_at(t.fd, "ten", 10, &tiny, &err), ERR_EXHAUSTED,
                    "%s/ten is longer than 4 bytes");
    assert_int_equal(tiny.len, 0);
}

static void test_read_strange(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_STRBUF struct strbuf sb = STRBUF_INIT(100);

    tmpdir_write(&t, "file", "x", 1);
    assert_int_equal(symlinkat("file", t.fd, "link"), 0);
    assert_int_equal(mkfifoat(t.fd, "fifo", 0600), 0);
    assert_int_equal(mkdirat(t.fd, "dir", 0700), 0);
    assert_fails_in(&t, fs_read_at(t.fd, "link", 9, &sb, &err), ERR_INTERNAL,
                    "open '%s/link': Too many levels of symbolic links");
    assert_fails_in(&t, fs_read_at(t.fd, "fifo", 9, &sb, &err), ERR_DATA_LOSS,
                    "'%s/fifo' is not a regular file");
    assert_fails_in(&t, fs_read_at(t.fd, "dir", 9, &sb, &err), ERR_DATA_LOSS,
                    "'%s/dir' is not a regular file");
    assert_fails(fs_read_fd(t.fd, "the directory", 9, &sb, &err), ERR_INTERNAL,
                 "read 'the directory': Is a directory");
}

static void expect_content(const struct tmpdir *t, const char *name, const char *wanted)
{
    AUTO_FREE char *text = tmpdir_read(t, name);

    if (wanted == NULL)
        assert_null(text);
    else
        assert_string_equal(text != NULL ? text : "(none)", wanted);
}

static void test_write_atomic(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    const struct fs_owner owner = { .uid = 4242, .gid = 4343 };
    struct stat st;

    assert_works(fs_write_atomic_at(t.fd, "r", "one", 3, 0640, NULL, &err));
    expect_content(&t, "r", "one");
    assert_int_equal(fstatat(t.fd, "r", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    /* left by a killed writer, and not even a file of ours */
    assert_int_equal(symlinkat("/etc/passwd", t.fd, "r.tmp"), 0);
    assert_works(fs_write_atomic_at(t.fd, "r", "two", 3, 0600, &owner, &err));
    expect_content(&t, "r", "two");
    expect_content(&t, "r.tmp", NULL);
    assert_int_equal(fstatat(t.fd, "r", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0600);
    if (geteuid() == 0) {
        assert_int_equal(st.st_uid, 4242);
        assert_int_equal(st.st_gid, 4343);
    }
    assert_works(fs_write_atomic_at(t.fd, "r", "", 0, 0600, NULL, &err));
    expect_content(&t, "r", "");
}

static void test_write_atomic_fails(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    char longest[300];

    assert_int_equal(mkdirat(t.fd, "dir", 0700), 0);
    assert_fails_in(&t, fs_write_atomic_at(t.fd, "dir", "x", 1, 0600, NULL, &err), ERR_INTERNAL,
                    "rename to '%s/dir': Is a directory");
    expect_content(&t, "dir.tmp", NULL);
    assert_int_equal(mkdirat(t.fd, "r.tmp", 0700), 0);
    assert_fails_in(&t, fs_write_atomic_at(t.fd, "r", "x", 1, 0600, NULL, &err), ERR_INTERNAL,
                    "remove '%s/r.tmp': Is a directory");
    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(fs_write_atomic_at(t.fd, longest, "x", 1, 0600, NULL, NULL), -1);
}

/* Killed at any time, the file is the old or the new one, whole. */
static void test_write_atomic_killed(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    static char content[2][20001];

    memset(content[0], 'a', 20000);
    memset(content[1], 'b', 20000);
    assert_works(fs_write_atomic_at(t.fd, "r", content[0], 20000, 0600, NULL, &err));
    for (int round = 0; round < 40; round++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            for (unsigned int i = 0;; i++)
                if (fs_write_atomic_at(t.fd, "r", content[i % 2], 20000, 0600, NULL, NULL) < 0)
                    _exit(1);
        (void)usleep((useconds_t)(500 + 137 * round));
        (void)kill(pid, SIGKILL);
        int status;

        (void)waitpid(pid, &status, 0);
        assert_true(WIFSIGNALED(status)); /* it had not failed */
        AUTO_FREE char *text = tmpdir_read(&t, "r");

        assert_non_null(text);
        assert_int_equal(strlen(text), 20000);
        assert_string_equal(text, content[text[0] == 'b']);
    }
    assert_works(fs_write_atomic_at(t.fd, "r", "end", 3, 0600, NULL, &err));
    expect_content(&t, "r", "end");
}

static void test_write_all(void **state UNUSED)
{
    AUTO_CLOSE int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    AUTO_CLOSE int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    assert_works(fs_write_all(null, "abc", 3, "null", &err));
    assert_fails(fs_write_all(full, "abc", 3, "full", &err), ERR_EXHAUSTED,
                 "write 'full': No space left on device");
    assert_works(fs_write_all(full, "", 0, "full", &err));
    assert_int_equal(fs_fsync_dir(-1, "none", NULL), -1);
}

static void test_mkdir_p(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    mode_t old = umask(077);
    struct stat st;

    assert_works(fs_mkdir_p(tmpdir_path(&t, "a/b//c/"), 0750, &err));
    (void)umask(old);
    assert_int_equal(fstatat(t.fd, "a/b/c", &st, 0), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_works(fs_mkdir_p(tmpdir_path(&t, "a/b/c"), 0700, &err)); /* leaves what is there */
    assert_int_equal(fstatat(t.fd, "a/b/c", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_works(fs_mkdir_p("/", 0700, &err));
    tmpdir_write(&t, "file", "x", 1);
    assert_fails_in(&t, fs_mkdir_p(tmpdir_path(&t, "file"), 0700, &err), ERR_INTERNAL,
                    "make directory '%s/file': Not a directory");
    assert_int_equal(fs_mkdir_p(tmpdir_path(&t, "file/x"), 0700, NULL), -1);
    assert_int_equal(symlinkat("a", t.fd, "link"), 0);
    assert_fails_in(&t, fs_mkdir_p(tmpdir_path(&t, "link"), 0700, &err), ERR_INTERNAL,
                    "make directory '%s/link': Not a directory");
    assert_works(fs_mkdir_p(tmpdir_path(&t, "link/d"), 0700, &err));
    assert_int_equal(fstatat(t.fd, "a/d", &st, 0), 0);
    assert_fails(fs_mkdir_p("", 0700, &err), ERR_INVALID,
                 "a directory's path must have 1 to 4095 bytes");
}

static void test_open_path(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    int fd = -1;

    assert_int_equal(mkdirat(t.fd, "dir", 0700), 0);
    assert_int_equal(symlinkat("dir", t.fd, "link"), 0);
    tmpdir_write(&t, "dir/file", "x", 1);
    assert_works(fs_open_path(tmpdir_path(&t, "dir/file"), &fd, &err));
    assert_true((fcntl(fd, F_GETFL) & O_PATH) != 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    (void)close(fd);
    fd = -1;
    assert_fails_in(&t, fs_open_path(tmpdir_path(&t, "gone"), &fd, &err), ERR_NOT_FOUND,
                    "open '%s/gone': No such file or directory");
    assert_fails_in(&t, fs_open_path(tmpdir_path(&t, "link"), &fd, &err), ERR_INVALID,
                    "path '%s/link' leads over a symbolic link");
    assert_fails_in(&t, fs_open_path(tmpdir_path(&t, "link/file"), &fd, &err), ERR_INVALID,
                    "path '%s/link/file' leads over a symbolic link");
    assert_fails_in(&t, fs_open_path(tmpdir_path(&t, "dir/../dir"), &fd, &err), ERR_INVALID,
                    "path '%s/dir/../dir' holds '..'");
    assert_fails_in(&t, fs_open_path(tmpdir_path(&t, "dir/.."), &fd, &err), ERR_INVALID,
                    "path '%s/dir/..' holds '..'");
    assert_fails_in(&t, fs_open_path(tmpdir_path(&t, "dir/file/x"), &fd, &err), ERR_INVALID,
                    "open '%s/dir/file/x': Not a directory");
    assert_fails(fs_open_path("dir/file", &fd, &err), ERR_INVALID,
                 "path 'dir/file' is not absolute");
    assert_fails(fs_open_path("", &fd, &err), ERR_INVALID, "path '' is not absolute");
    assert_fails(fs_open_path("/proc/self/fd/0/x", &fd, &err), ERR_INVALID,
                 "path '/proc/self/fd/0/x' leads over a symbolic link");
    tmpdir_write(&t, "..odd", "x", 1);
    assert_works(fs_open_path(tmpdir_path(&t, "..odd"), &fd, &err));
    (void)close(fd);
}

static void test_flock(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_CLOSE int other = -1, copy = -1;
    int fd;

    tmpdir_write(&t, "lock", "", 0);
    fd = openat(t.fd, "lock", O_RDWR | O_CLOEXEC);
    other = openat(t.fd, "lock", O_RDWR | O_CLOEXEC);
    assert_works(fs_flock(fd, "volume 'v'", &err));
    assert_works(fs_flock(fd, "volume 'v'", &err)); /* the same description */
    assert_fails(fs_flock(other, "volume 'v'", &err), ERR_ABORTED,
                 "volume 'v' is locked by another operation");
    copy = dup(fd); /* as a child has it */
    (void)close(fd);
    assert_int_equal(fs_flock(other, "volume 'v'", NULL), -1);
    (void)close(TAKE_FD(copy));
    assert_works(fs_flock(other, "volume 'v'", &err));
    assert_fails(fs_flock(-1, "nothing", &err), ERR_INTERNAL, "lock nothing: Bad file descriptor");
}

static void test_read_line(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    char text[8] = "old";

    tmpdir_write(&t, "nl", "abc\n", 4);
    tmpdir_write(&t, "bare", "abcdefg", 7);
    tmpdir_write(&t, "fits", "abcdefg\n", 8);
    tmpdir_write(&t, "long", "abcdefgh", 8);
    tmpdir_write(&t, "two", "a\n\n", 3);
    tmpdir_write(&t, "nul", "a\0b\n", 4);
    tmpdir_write(&t, "empty", "", 0);
    assert_fails_in(&t, fs_read_line(tmpdir_path(&t, "long"), text, sizeof(text), &err),
                    ERR_DATA_LOSS, "'%s/long' is longer than 7 bytes");
    assert_fails_in(&t, fs_read_line(tmpdir_path(&t, "nul"), text, sizeof(text), &err),
                    ERR_DATA_LOSS, "'%s/nul' holds a NUL");
    assert_int_equal(fs_read_line(tmpdir_path(&t, "gone"), text, sizeof(text), NULL), -1);
    assert_string_equal(text, "old");
    assert_works(fs_read_line(tmpdir_path(&t, "nl"), text, sizeof(text), &err));
    assert_string_equal(text, "abc");
    assert_works(fs_read_line(tmpdir_path(&t, "bare"), text, sizeof(text), &err));
    assert_string_equal(text, "abcdefg");
    assert_works(fs_read_line(tmpdir_path(&t, "fits"), text, sizeof(text), &err));
    assert_string_equal(text, "abcdefg");
    assert_works(fs_read_line(tmpdir_path(&t, "two"), text, sizeof(text), &err));
    assert_string_equal(text, "a\n");
    assert_works(fs_read_line(tmpdir_path(&t, "empty"), text, sizeof(text), &err));
    assert_string_equal(text, "");
    assert_works(fs_read_line("/proc/self/comm", text, sizeof(text), &err)); /* "test_fs" */
    assert_string_equal(text, "test_fs");
}

static void test_write_new(void **state UNUSED)
{
    AUTO_TMPDIR struct tmpdir t = tmpdir_make();
    AUTO_FREE char *text = NULL;
    struct stat st;
    char sub[600];

    assert_works(fs_write_new(tmpdir_path(&t, "new"), "hello", 5, 0600, &err));
    text = tmpdir_read(&t, "new");
    assert_string_equal(text, "hello");
    assert_int_equal(fstatat(t.fd, "new", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_fails_in(&t, fs_write_new(tmpdir_path(&t, "new"), "x", 1, 0600, &err), ERR_EXISTS,
                    "write '%s/new': 'new' is there already");
    /* also a link to nowhere */
    assert_int_equal(symlinkat("nowhere", t.fd, "link"), 0);
    assert_fails_in(&t, fs_write_new(tmpdir_path(&t, "link"), "x", 1, 0600, &err), ERR_EXISTS,
                    "write '%s/link': 'link' is there already");
    assert_int_equal(faccessat(t.fd, "nowhere", F_OK, 0), -1);
    assert_fails_in(&t, fs_write_new(tmpdir_path(&t, "gone/x"), "x", 1, 0600, &err), ERR_NOT_FOUND,
                    "open directory '%s/gone': No such file or directory");
    (void)snprintf(sub, sizeof(sub), "%s/", t.path);
    assert_fails_in(&t, fs_write_new(sub, "x", 1, 0600, &err), ERR_INVALID, "'%s/' names no file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_dir),           cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_strange),       cmocka_unit_test(test_write_atomic),
        cmocka_unit_test(test_write_atomic_fails), cmocka_unit_test(test_write_atomic_killed),
        cmocka_unit_test(test_write_all),          cmocka_unit_test(test_mkdir_p),
        cmocka_unit_test(test_open_path),          cmocka_unit_test(test_flock),
        cmocka_unit_test(test_read_line),          cmocka_unit_test(test_write_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
