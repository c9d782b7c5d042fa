/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fixture.h: a controller over pools in a temporary directory, with a key service that the test
 * plays itself (keyd_mint and keyd_destroy below take the place of keyd/client.c's), and a sysfs of
 * its own.
 */
#ifndef COFFER_TESTS_UNIT_CONTROLLER_FIXTURE_H
#define COFFER_TESTS_UNIT_CONTROLLER_FIXTURE_H

#include "common/base.h"
#include "common/deadline.h"
#include "controller/controller.h"
#include "keyd/client.h"
#include "tests/unit/backends/fixture.h"

struct rig {
    struct fixture f;
    struct controller c;
    struct csi_call call;
    struct error err;
};

/* What the key service does, and what it saw. */
static struct {
    enum error_code fails, destroy_fails;
    unsigned minted, destroyed;
    const char *kind; /* NULL: "file" */
    char uuid[37], tenant[64], kms[64], volume_id[VOLUME_ID_MAX + 1];
} keyd;

int keyd_mint(const char *socket_path, const struct keyd_binding *b, uint64_t deadline,
              struct keyd_wrapped *ret, struct error *err)
{
    if (keyd.fails != ERR_OK)
        return error_set(err, keyd.fails, "the key service says no");
    keyd.minted++;
    (void)snprintf(keyd.uuid, sizeof(keyd.uuid), "%s", b->uuid);
    (void)snprintf(keyd.tenant, sizeof(keyd.tenant), "%s", b->tenant);
    (void)snprintf(keyd.kms, sizeof(keyd.kms), "%s", b->kms);
    (void)snprintf(keyd.volume_id, sizeof(keyd.volume_id), "%s", b->volume_id);
    memset(ret, 0, sizeof(*ret));
    (void)snprintf(ret->kind, sizeof(ret->kind), "%s", keyd.kind == NULL ? "file" : keyd.kind);
    (void)snprintf(ret->ciphertext, sizeof(ret->ciphertext), "wrapped-%u", keyd.minted);
    ret->version = 1;
    return 0;
}

int keyd_destroy(const char *socket_path, const struct keyd_binding *b, uint64_t deadline,
                 struct error *err)
{
    if (keyd.destroy_fails != ERR_OK)
        return error_set(err, keyd.destroy_fails, "the key service says no");
    assert_string_equal(b->uuid, keyd.uuid);
    keyd.destroyed++;
    return 0;
}

static inline void rig_make(struct rig *r, size_t n_pools)
{
    memset(r, 0, sizeof(*r));
    memset(&keyd, 0, sizeof(keyd));
    fixture_make(&r->f, n_pools);
    (void)snprintf(r->f.config.default_tenant, sizeof(r->f.config.default_tenant), "lab");
    assert_int_equal(mkdir(tmpdir_path(&r->f.dir, "sysfs"), 0700), 0);
    r->c.config = &r->f.config;
    r->c.pools = r->f.set;
    r->c.locks = keylock_new();
    r->c.keyd_socket = "/none";
    r->c.sysfs_block = strdup(tmpdir_path(&r->f.dir, "sysfs"));
    r->c.expand = true;
    assert_ok(controller_set_names(&r->c, "csi.coffer.dev", "n1", &r->err), r->err);
    r->call = (struct csi_call){ .arena = arena_new(MIB(16)), .deadline = DEADLINE_NEVER };
}

static inline void rig_release(struct rig *r)
{
    free((char *)(uintptr_t)r->c.sysfs_block);
    keylock_free(r->c.locks);
    arena_free(r->call.arena);
    fixture_release(&r->f);
}
#define RIG_INIT          \
    {                     \
        .f = FIXTURE_INIT \
    }
#define AUTO_RIG __attribute__((cleanup(rig_release)))

/* The kernel shows an open mapping of that uuid. */
static inline void rig_open_mapping(struct rig *r, const char *uuid)
{
    char text[128] = "CRYPT-LUKS2-";
    size_t n = strlen(text);

    for (const char *p = uuid; *p != '\0'; p++) {
        if (*p != '-')
            text[n++] = *p;
    }
    (void)snprintf(text + n, sizeof(text) - n, "-any-name\n");
    assert_int_equal(mkdir(tmpdir_path(&r->f.dir, "sysfs/dm-0"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(&r->f.dir, "sysfs/dm-0/dm"), 0700), 0);
    tmpdir_write(&r->f.dir, "sysfs/dm-0/dm/uuid", text, strlen(text));
}

static inline struct csi_capability rig_mount(void)
{
    return (struct csi_capability){ .type = CSI_ACCESS_MOUNT,
                                    .mode = CSI_SINGLE_NODE_WRITER,
                                    .fs_type = "",
                                    .volume_mount_group = "" };
}

static inline struct csi_capability rig_block(void)
{
    return (struct csi_capability){ .type = CSI_ACCESS_BLOCK,
                                    .mode = CSI_SINGLE_NODE_WRITER,
                                    .fs_type = "",
                                    .volume_mount_group = "" };
}

/* A request for a mounted volume of `size` in the pool; its parts live as long as the process. */
static inline struct csi_create_volume_request rig_request(const char *name, const char *pool,
                                                           uint64_t size)
{
    static struct csi_capability mount;
    static struct csi_pair parameter;

    mount = rig_mount();
    parameter = (struct csi_pair){ .key = "pool", .value = pool };
    return (struct csi_create_volume_request){ .name = name,
                                               .has_range = true,
                                               .required_bytes = size,
                                               .capabilities = { .items = &mount, .n = 1 },
                                               .parameters = { .items = &parameter, .n = 1 } };
}

static inline int rig_create(struct rig *r, const char *name, uint64_t size, struct csi_volume *ret)
{
    struct csi_create_volume_request req = rig_request(name, "a", size);

    r->err = (struct error)ERROR_INIT;
    return controller_create(&r->c, &r->call, &req, ret, &r->err);
}

static inline struct csi_volume rig_volume(struct rig *r, const char *name, uint64_t size)
{
    struct csi_volume v;

    assert_ok(rig_create(r, name, size, &v), r->err);
    return v;
}

static inline int rig_delete(struct rig *r, const char *volume_id)
{
    struct csi_delete_volume_request req = { .volume_id = volume_id };

    r->err = (struct error)ERROR_INIT;
    return controller_delete(&r->c, &r->call, &req, &r->err);
}

static inline struct record rig_record(struct rig *r, const char *volume_id)
{
    struct volume_id id;
    struct record record;
    struct pool *pool = NULL;

    assert_ok(volume_id_parse(volume_id, &id, &r->err), r->err);
    assert_ok(pool_set_for_id(r->f.set, &id, &pool, &r->err), r->err);
    assert_ok(pool->ops->peek_record(pool, &id, &record, &r->err), r->err);
    return record;
}

static inline void rig_set_state(struct rig *r, const char *volume_id, enum record_state state)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct volume_id id;
    struct record record;

    assert_ok(volume_id_parse(volume_id, &id, &r->err), r->err);
    assert_ok(volume_open(pool_set_find(r->f.set, id.pool), &id, false, &v, &r->err), r->err);
    assert_ok(v.pool->ops->read_record(&v, &record, &r->err), r->err);
    record.state = state;
    assert_ok(v.pool->ops->write_record(&v, &record, &r->err), r->err);
}

/* No place of that volume is left. */
static inline bool rig_is_gone(struct rig *r, const char *volume_id)
{
    struct volume_id id;

    assert_ok(volume_id_parse(volume_id, &id, &r->err), r->err);
    return !exists(place_path(&r->f, &id, ""));
}

static inline char *rig_id(struct rig *r, size_t pool, const char *name)
{
    struct volume_id id = fixture_id(&r->f, pool, name);
    char text[VOLUME_ID_MAX + 1];

    volume_id_format(&id, text);
    return arena_strdup(r->call.arena, text);
}

#endif
