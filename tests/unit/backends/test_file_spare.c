/* SPDX-License-Identifier: Apache-2.0 */
/* A volume can be deleted on a file system without a free block. On a tmpfs of its own, in a child;
 * skipped where none can be mounted. */
#include "common/base.h"
#include "tests/unit/backends/fixture.h"

#include "backends/file.h"
#include "tests/support/namespace.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static bool fill(const struct tmpdir *at)
{
    static const char page[4096];
    AUTO_CLOSE int fd =
        open(tmpdir_path(at, "other"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    for (unsigned i = 0; fd >= 0 && i < 100000; i++) {
        if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
            return errno == ENOSPC;
    }
    return false;
}

static int erase(struct volume *v, struct error *err)
{
    struct record r;

    if (v->pool->ops->read_record(v, &r, err) < 0)
        return -1;
    r.state = RECORD_ERASED;
    return v->pool->ops->write_record(v, &r, err);
}

/* Another state has no business with the spare: it doesn't make room. */
static int change(struct volume *v, struct error *err)
{
    struct record r;

    if (v->pool->ops->read_record(v, &r, err) < 0)
        return -1;
    r.size += MIB(1);
    return v->pool->ops->write_record(v, &r, err);
}

static int delete_in_full(struct fixture *f, const struct tmpdir *at)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT, w = VOLUME_INIT;
    struct volume_id a = fixture_volume(f, 0, "pvc-1"), b = fixture_volume(f, 0, "pvc-2");
    struct error err = ERROR_INIT;
    struct record r;

    assert_ok(volume_open(f->set->pools[0], &a, false, &v, &err), err);
    assert_ok(volume_open(f->set->pools[0], &b, false, &w, &err), err);
    assert_true(exists(tmpdir_path(&f->dir, "a/" FILE_SPARE)));
    if (!fill(at))
        return 1;
    if (change(&v, &err) == 0 || err.code != ERR_EXHAUSTED)
        return 2;
    if (erase(&v, &err) < 0 || exists(tmpdir_path(&f->dir, "a/" FILE_SPARE)))
        return 3;
    /* one at a time: the spare is gone until there is room again */
    if (!fill(at) || erase(&w, &err) == 0 || err.code != ERR_EXHAUSTED)
        return 4;
    if (v.pool->ops->read_record(&v, &r, &err) < 0 || r.state != RECORD_ERASED || r.gen != 3)
        return 5;
    if (v.pool->ops->remove(&v, &err) < 0 || !exists(tmpdir_path(&f->dir, "a/" FILE_SPARE)))
        return 6;
    return erase(&w, &err) < 0 || w.pool->ops->remove(&w, &err) < 0 ? 7 : 0;
}

static int in_small_file_system(void)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_TMPDIR struct tmpdir at = tmpdir_make();
    int r;

    if (namespace_enter_tmpfs(at.path, "size=60m") < 0)
        return FIXTURE_NO_NAMESPACE;
    fixture_make(&f, 1);
    r = delete_in_full(&f, &at);
    fixture_release(&f);
    (void)umount2(at.path, MNT_DETACH);
    return r;
}

static void test_delete_without_a_free_block(void **state UNUSED)
{
    pid_t child = fork();

    if (child == 0)
        _exit(in_small_file_system());
    fixture_demand_child(child);
}

/* ---- a quota ---- */

/* What a write that wants a new block is told; the spare is written by pwrite, into its own. */
static bool use_up_quota(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EDQUOT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = { .len = ARRAY_SIZE(code), .filter = code };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static int delete_over_quota(struct volume *v)
{
    struct error err = ERROR_INIT;

    if (!use_up_quota())
        return 1;
    if (change(v, &err) == 0 || err.code != ERR_EXHAUSTED || err.sys_errno != EDQUOT)
        return 2;
    return erase(v, &err) < 0 || v->pool->ops->remove(v, &err) < 0 ? 3 : 0;
}

/* The pool's owner has no block left, though the file system has: nothing could be deleted. */
static void test_delete_over_quota(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;
    struct volume_id id;
    pid_t child;

    fixture_make(&f, 1);
    id = fixture_volume(&f, 0, "pvc-1");
    assert_ok(volume_open(f.set->pools[0], &id, false, &v, &err), err);
    child = fork();
    if (child == 0)
        _exit(delete_over_quota(&v));
    fixture_demand_child(child);
    assert_false(exists(place_path(&f, &id, "")));
}

/* Without space of its own a spare is none, and it is made whole again. */
static void test_keep(void **state UNUSED)
{
    AUTO_FIXTURE struct fixture f = FIXTURE_INIT;
    AUTO_CLOSE int root = -1;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    struct error err = ERROR_INIT;
    struct stat st;

    fixture_make(&f, 1);
    root = open(tmpdir_path(&f.dir, "a"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    strbuf_adds(&text, "{}");
    assert_fails(file_spare_use(root, f.dir.fd, &text, &err), err, ERR_NOT_FOUND);
    tmpdir_write(&f.dir, "a/" FILE_SPARE, "", 0);
    assert_fails(file_spare_use(root, f.dir.fd, &text, &err), err, ERR_EXHAUSTED);
    file_spare_keep(root);
    assert_int_equal(stat(tmpdir_path(&f.dir, "a/" FILE_SPARE), &st), 0);
    assert_true(st.st_blocks * 512 >= RECORD_MAX);
    file_spare_keep(root);
    err = (struct error)ERROR_INIT;
    assert_ok(file_spare_use(root, f.dir.fd, &text, &err), err);
    assert_int_equal(stat(tmpdir_path(&f.dir, FILE_RECORD), &st), 0);
    assert_int_equal(st.st_size, 2);
    assert_false(exists(tmpdir_path(&f.dir, "a/" FILE_SPARE)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delete_without_a_free_block),
        cmocka_unit_test(test_delete_over_quota),
        cmocka_unit_test(test_keep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
