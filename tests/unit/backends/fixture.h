/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h: pools in a temporary directory, volumes in them, and a sweep that kills a child at
 * each fault point. Any failure ends the test.
 */
#ifndef COFFER_TESTS_UNIT_BACKENDS_FIXTURE_H
#define COFFER_TESTS_UNIT_BACKENDS_FIXTURE_H

#include "common/base.h"
#include "backends/backend.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "tests/support/skip.h"
#include "tests/support/tmpdir.h"
#include "volume/geometry.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define FIXTURE_POOLS 2
#define FIXTURE_SIZE  MIB(16)

/* assert_int_equal with the error's text when it isn't so. */
#define assert_ok(call, err)                                                       \
    do {                                                                           \
        if ((call) < 0)                                                            \
            fail_msg("%s: %s: %s", #call, error_code_name((err).code), (err).msg); \
    } while (0)
#define assert_fails(call, err, want)                                                \
    do {                                                                             \
        (err) = (struct error)ERROR_INIT;                                            \
        if ((call) == 0)                                                             \
            fail_msg("%s did not fail", #call);                                      \
        if ((err).code != (want))                                                    \
            fail_msg("%s: %s instead of %s: %s", #call, error_code_name((err).code), \
                     error_code_name(want), (err).msg);                              \
    } while (0)

struct fixture {
    struct tmpdir dir;
    struct pool_config pools[FIXTURE_POOLS];
    struct kms_config kms[2];
    struct config config;
    struct pool_set *set;
};

/* Pools "a" (made) and "b" (made when two), each with the key services k1 and k2. */
static inline void fixture_make(struct fixture *f, size_t n_pools)
{
    static const char *const names[FIXTURE_POOLS] = { "a", "b" };
    struct error err = ERROR_INIT;
    char tag[9];

    memset(f, 0, sizeof(*f));
    f->dir = tmpdir_make();
    f->config.pools = f->pools;
    f->config.n_pools = n_pools;
    f->config.kms = f->kms;
    f->config.n_kms = 2;
    for (size_t i = 0; i < 2; i++)
        (void)snprintf(f->kms[i].name, sizeof(f->kms[i].name), "k%zu", i + 1);
    for (size_t i = 0; i < n_pools; i++) {
        struct pool_config *p = &f->pools[i];

        (void)snprintf(p->name, sizeof(p->name), "%s", names[i]);
        (void)snprintf(p->backend, sizeof(p->backend), "file");
        (void)snprintf(p->allocate, sizeof(p->allocate), "full");
        (void)snprintf(p->path, sizeof(p->path), "%s/%s", f->dir.path, names[i]);
        (void)snprintf(p->kms[0], sizeof(p->kms[0]), "k1");
        (void)snprintf(p->kms[1], sizeof(p->kms[1]), "k2");
        p->n_kms = 2;
        assert_ok(backend_find("file")->pool_init(p, NULL, tag, &err), err);
    }
    assert_ok(pool_set_open(&f->config, &f->set, &err), err);
}

static inline void fixture_release(struct fixture *f)
{
    pool_set_free(f->set);
    f->set = NULL;
    tmpdir_remove(&f->dir);
}
#define FIXTURE_INIT                                 \
    {                                                \
        .dir = { .path = "", .fd = -1 }, .set = NULL \
    }
#define AUTO_FIXTURE __attribute__((cleanup(fixture_release)))

/* The end of a test that a child made, in a mount namespace of its own: it answers 0, or that there
 * can be none. */
#define FIXTURE_NO_NAMESPACE 77
static inline void fixture_demand_child(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == FIXTURE_NO_NAMESPACE)
        skip_because(SKIP_NO_NAMESPACE);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static inline struct volume_id fixture_id(const struct fixture *f, size_t pool, const char *name)
{
    struct volume_id id;

    volume_id_from_name(f->pools[pool].name, f->set->pools[pool]->tag, name, &id);
    return id;
}

static inline struct record fixture_record(const struct volume_id *id, const char *name)
{
    struct record r = { .gen = 0, .size = FIXTURE_SIZE, .state = RECORD_MINTING };

    volume_id_format(id, r.id);
    assert_int_equal(str_copy(r.name, sizeof(r.name), name), 0);
    assert_int_equal(str_copy(r.tenant, sizeof(r.tenant), "lab"), 0);
    assert_int_equal(str_copy(r.fs, sizeof(r.fs), "ext4"), 0);
    assert_int_equal(str_copy(r.kms, sizeof(r.kms), "k1"), 0);
    assert_int_equal(str_copy(r.key_source, sizeof(r.key_source), "vault"), 0);
    assert_int_equal(uuid_random(r.uuid), 0);
    record_now(r.created);
    return r;
}

static inline void record_be_new(struct record *r)
{
    r->state = RECORD_NEW;
    assert_int_equal(str_copy(r->key.kind, sizeof(r->key.kind), "file"), 0);
    assert_int_equal(str_copy(r->key.ciphertext, sizeof(r->key.ciphertext), "AAAA"), 0);
    r->key.version = 1;
}

/* A volume in state `new`, closed. */
static inline struct volume_id fixture_volume(struct fixture *f, size_t pool, const char *name)
{
    struct volume_id id = fixture_id(f, pool, name);
    struct record r = fixture_record(&id, name);
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct error err = ERROR_INIT;

    assert_ok(volume_open(f->set->pools[pool], &id, true, &v, &err), err);
    assert_ok(v.pool->ops->write_record(&v, &r, &err), err);
    assert_ok(v.pool->ops->allocate(&v, r.size + GEOMETRY_DATA_OFFSET, &err), err);
    record_be_new(&r);
    assert_ok(v.pool->ops->write_record(&v, &r, &err), err);
    return id;
}

/* "<pool path>/volumes/xx/<hash>[/name]" */
static inline const char *place_path(const struct fixture *f, const struct volume_id *id,
                                     const char *name)
{
    static char ring[4][4096];
    static unsigned next;
    char *path = ring[next++ % 4];

    (void)snprintf(path, sizeof(ring[0]), "%s/%s/volumes/%.2s/%s%s%s", f->dir.path, id->pool,
                   id->hash, id->hash, name[0] != '\0' ? "/" : "", name);
    return path;
}

static inline bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* ---- loop devices ---- */

static inline bool is_attached(dev_t dev)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/loop/backing_file", major(dev),
                   minor(dev));
    return exists(path);
}

/* The kernel clears an autoclear loop after the last close, not in it. */
static inline bool is_cleared(dev_t dev)
{
    for (int i = 0; i < 1000 && is_attached(dev); i++)
        (void)usleep(10000);
    return !is_attached(dev);
}

#ifdef COFFER_FAULT
static inline const char *fault_path(const char *faults, const char *ending)
{
    static _Thread_local char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s.%s", faults, program_invocation_short_name, ending);
    return path;
}

/* Arms the fault points of this process (and of children that it makes now). */
static inline bool fault_arm(const char *faults, const char *text)
{
    FILE *f;

    (void)unlink(fault_path(faults, "trace"));
    f = fopen(fault_path(faults, "arm"), "we");
    return f != NULL && fprintf(f, "%s\n", text) > 0 && fclose(f) == 0 &&
           setenv("COFFER_FAULT_DIR", faults, 1) == 0;
}

static inline void fault_disarm(const char *faults)
{
    (void)unlink(fault_path(faults, "arm"));
    (void)unsetenv("COFFER_FAULT_DIR");
}

/* Runs `step` in an armed child; its wait status. */
static inline int fault_child(const char *faults, const char *arm, int (*step)(void *ctx),
                              void *ctx)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (!fault_arm(faults, arm))
            _exit(99);
        _exit(step(ctx) < 0 ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* Runs `step` in children that are killed at the 1st, 2nd, ... fault point, each in a state that
 * `before` made and followed by `after`, until a child lives to the end. Returns how many were
 * killed. */
static inline unsigned sweep(void (*before)(void *ctx), int (*step)(void *ctx),
                             void (*after)(void *ctx), void *ctx)
{
    AUTO_TMPDIR struct tmpdir faults = tmpdir_make();

    for (unsigned n = 1;; n++) {
        char arm[32];
        int status;

        (void)snprintf(arm, sizeof(arm), "kill %u", n);
        before(ctx);
        status = fault_child(faults.path, arm, step, ctx);
        if (!WIFSIGNALED(status) && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
            fail_msg("kill %u: the child failed (status %x)", n, (unsigned)status);
        after(ctx);
        if (WIFEXITED(status))
            return n - 1;
        assert_int_equal(WTERMSIG(status), SIGKILL);
        assert_true(n < 1000);
    }
}
#endif

#endif
