/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h: a node with a real pool and one volume in it that is staged, as far as the rig (rig.h)
 * shows it, and a request that publishes it. bench_make, then what the test is about.
 */
#ifndef COFFER_TESTS_UNIT_NODE_BENCH_H
#define COFFER_TESTS_UNIT_NODE_BENCH_H

#include "tests/unit/node/rig.h"

#include "common/deadline.h"
#include "node/node.h"

#define FS_BLOCK  "dm-0"
#define WANT_SIZE MIB(16)

static struct bench {
    struct tmpdir t;
    struct pool_config pool;
    struct config config;
    struct node node;
    struct volume_id id;
    char id_text[VOLUME_ID_MAX + 1], dm_name[DM_NAME_LEN + 1];
    char staging[600], target[600], device_dir[600];
    struct csi_call call;
    struct csi_publish_request req;
} b;

static inline void set(char *ret, size_t size, const char *text)
{
    assert_int_equal(str_copy(ret, size, text), 0);
}

static inline void make_pool(void)
{
    char tag[9];

    set(b.pool.name, sizeof(b.pool.name), "p");
    set(b.pool.backend, sizeof(b.pool.backend), "file");
    set(b.pool.allocate, sizeof(b.pool.allocate), "full");
    set(b.pool.kms[0], sizeof(b.pool.kms[0]), "lab");
    b.pool.n_kms = 1;
    (void)snprintf(b.pool.path, sizeof(b.pool.path), "%s/pool", b.t.path);
    b.config = (struct config){ .pools = &b.pool, .n_pools = 1 };
    assert_works(backend_find("file")->pool_init(&b.pool, NULL, tag, &err));
    assert_works(pool_set_open(&b.config, &b.node.pools, &err));
    volume_id_from_name("p", tag, "pvc-1", &b.id);
    volume_id_format(&b.id, b.id_text);
    volume_id_dm_name(&b.id, b.dm_name);
}

static inline void make_record(const char *fs)
{
    static const char hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct record r = { .size = WANT_SIZE, .state = RECORD_READY };

    set(r.id, sizeof(r.id), b.id_text);
    set(r.name, sizeof(r.name), "pvc-1");
    set(r.uuid, sizeof(r.uuid), RIG_UUID);
    set(r.tenant, sizeof(r.tenant), "lab");
    set(r.fs, sizeof(r.fs), fs);
    set(r.kms, sizeof(r.kms), "lab");
    set(r.key_source, sizeof(r.key_source), "vault");
    set(r.key.kind, sizeof(r.key.kind), "file");
    set(r.key.ciphertext, sizeof(r.key.ciphertext), "AAAA");
    set(r.digest, sizeof(r.digest), hex);
    set(r.mac, sizeof(r.mac), hex);
    record_now(r.created);
    assert_works(volume_open(b.node.pools->pools[0], &b.id, true, &v, &err));
    assert_works(v.pool->ops->write_record(&v, &r, &err));
}

static inline void spoil_record(void)
{
    char path[4300];

    (void)snprintf(path, sizeof(path), "%s/volumes/%.2s/%s/record.json", b.pool.path, b.id.hash,
                   b.id.hash);
    assert_int_equal(truncate(path, 20), 0);
}

/* From now on pods open it, or the node does. */
static inline void set_identity(bool pod)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct record r;

    assert_works(volume_open(b.node.pools->pools[0], &b.id, false, &v, &err));
    assert_works(v.pool->ops->read_record(&v, &r, &err));
    r.pod = pod;
    assert_works(v.pool->ops->write_record(&v, &r, &err));
}

/* A volume that is staged: its file system is a tmpfs, or it is a loop device. */
static inline void bench_make(bool block)
{
    struct stat st = { .st_dev = RIG_LOOP };

    memset(&b, 0, sizeof(b));
    b.t = tmpdir_make();
    (void)snprintf(b.staging, sizeof(b.staging), "%s/staging", b.t.path);
    (void)snprintf(b.target, sizeof(b.target), "%s/target", b.t.path);
    (void)snprintf(b.device_dir, sizeof(b.device_dir), "%s/dev", b.t.path);
    b.node.locks = keylock_new();
    b.node.device_dir = b.device_dir;
    b.call.deadline = DEADLINE_NEVER;
    make_pool();
    make_record(block ? "none" : "ext4");
    rig_mkdir(b.staging);
    if (!block) {
        rig_mount_tmpfs(b.staging);
        assert_int_equal(stat(b.staging, &st), 0);
    }
    rig_mapping(FS_BLOCK, b.dm_name, RIG_UUID, st.st_dev, false);
    b.req = (struct csi_publish_request){
        .volume_id = b.id_text,
        .staging_target_path = b.staging,
        .target_path = b.target,
        .capability = { .type = block ? CSI_ACCESS_BLOCK : CSI_ACCESS_MOUNT,
                        .mode = CSI_SINGLE_NODE_MULTI_WRITER,
                        .fs_type = "ext4",
                        .volume_mount_group = "" },
    };
}

static inline int bench_clear(void **state)
{
    pool_set_free(b.node.pools);
    keylock_free(b.node.locks);
    b.node.pools = NULL;
    b.node.locks = NULL;
    return rig_clear(state);
}

static inline int publish(struct error *err)
{
    return node_publish_volume(&b.node, &b.call, &b.req, err);
}

static inline int unpublish(struct error *err)
{
    const struct csi_unpublish_request req = { .volume_id = b.id_text,
                                               .target_path = b.req.target_path };

    return node_unpublish_volume(&b.node, &b.call, &req, err);
}

/* Must fail with that code, in a sentence that holds the word. */
static inline void refused(int (*call)(struct error *err), enum error_code code, const char *word)
{
    struct error err = ERROR_INIT;

    assert_int_equal(call(&err), -1);
    if (err.code != code || strstr(err.msg, word) == NULL)
        fail_msg("%s: %s (expected %s, '%s')", error_code_name(err.code), err.msg,
                 error_code_name(code), word);
}

static inline size_t mounts_at(const char *path)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    size_t n = 0;

    assert_works(mount_table_load(&t, &err));
    for (size_t i = 0; i < t.n; i++)
        n += strcmp(t.items[i].point, path) == 0;
    return n;
}

static inline bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static inline const char *below(const char *dir, const char *name)
{
    static char path[4][800];
    static unsigned next;
    char *ret = path[next++ % 4];

    (void)snprintf(ret, sizeof(path[0]), "%s/%s", dir, name);
    return ret;
}

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, rig_clear, bench_clear)

#endif
