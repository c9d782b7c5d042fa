/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotation.h: coffer-keyd and coffer-crypt as a rotation of a volume's storage key asks them, on a
 * real pool: played. The header is a set of names of keys. A key that a service made is named by a
 * letter from A on, the first of its wrapped form; one that a device made by a letter from a to f,
 * each digit of its commitment and the first byte of a session that lends it.
 */
#ifndef COFFER_TESTS_UNIT_NODE_ROTATION_H
#define COFFER_TESTS_UNIT_NODE_ROTATION_H

#include "tests/unit/node/bench.h"
#include "tests/unit/node/nocrypt.h"

#include "keyd/client.h"
#include "volume/commitment.h"
#include "volume/recipients.h"

#define MAC_NEW  "1111111111111111111111111111111111111111111111111111111111111111"
#define MAC_LIST "3333333333333333333333333333333333333333333333333333333333333333"
#define MAC_END  "2222222222222222222222222222222222222222222222222222222222222222"

/* ---- played ---- */

enum step { MINT, WRAP, UNWRAP, SIGN, REKEY, PRUNE, STEPS };

static struct {
    unsigned asked[STEPS];
    enum step fails; /* STEPS: none does */
    enum error_code code;
    bool half;      /* what fails has done its work */
    char slots[64]; /* names of the keys that open the header: one letter each */
} played;

static inline char named(const struct record *r)
{
    return record_is_client(r) ? record_commitment(r)[0] : r->key.ciphertext[0];
}

static inline int play(enum step step, struct error *err)
{
    played.asked[step]++;
    return played.fails == step ? error_set(err, played.code, "as asked") : 0;
}

int keyd_mint(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
              uint64_t deadline UNUSED, struct keyd_wrapped *ret, struct error *err)
{
    if (play(MINT, err) < 0)
        return -1;
    *ret = (struct keyd_wrapped){ .kind = "file", .version = 7 };
    (void)snprintf(ret->ciphertext, sizeof(ret->ciphertext), "%c",
                   (int)('A' + (char)played.asked[MINT]));
    return 0;
}

int keyd_unwrap(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                const struct keyd_wrapped *key, enum keyd_use use, const char *token UNUSED,
                int pipe_write, uint64_t deadline UNUSED, struct error *err)
{
    assert_true(use == KEYD_USE_ROTATE || use == KEYD_USE_RECIPIENT);
    if (play(UNWRAP, err) < 0)
        return -1;
    assert_int_equal(write(pipe_write, key->ciphertext, 1), 1);
    return 0;
}

/* What it wraps for whom: the key's letter, then the recipient's key. */
int keyd_wrap_for(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                  const struct keyd_wrapped *key, const struct keyd_recipient *to,
                  uint64_t deadline UNUSED, unsigned char *ret, size_t *ret_len, struct error *err)
{
    if (play(WRAP, err) < 0)
        return -1;
    ret[0] = (unsigned char)key->ciphertext[0];
    memcpy(ret + 1, to->key, to->key_len);
    *ret_len = 1 + to->key_len;
    return 0;
}

/* A second byte: the session is over. */
int keyd_unwrap_client(const char *socket_path UNUSED, const struct keyd_binding *binding UNUSED,
                       const struct keyd_session *session, enum keyd_use use, int pipe_write,
                       uint64_t deadline UNUSED, struct error *err)
{
    const char key = *(const char *)session->data;

    assert_true(use == KEYD_USE_ROTATE || use == KEYD_USE_RECIPIENT);
    if (play(UNWRAP, err) < 0)
        return -1;
    if (session->len > 1)
        return error_set(err, ERR_PRECONDITION, "the session is over");
    if (session->commitment[0] != key)
        return error_set(err, ERR_INVALID, "the session was not made for this volume");
    assert_int_equal(write(pipe_write, &key, 1), 1);
    return 0;
}

static inline char key_of(int fd)
{
    char c = '?';

    assert_int_equal(read(fd, &c, 1), 1);
    return c;
}

static inline void give_slot(char key)
{
    const size_t n = strlen(played.slots);

    assert_true(n + 1 < sizeof(played.slots));
    played.slots[n] = key;
}

static inline bool opens(char key)
{
    return strchr(played.slots, key) != NULL;
}

/* All of the list are wrapped this key. */
static inline void demand_wrapped(const char *recipients, char key)
{
    struct recipient_list list;

    assert_works(recipients_decode(recipients, &list, &err));
    for (size_t i = 0; i < list.n; i++) {
        assert_int_equal(list.items[i].wrapped[0], key);
        assert_memory_equal(list.items[i].wrapped + 1, list.items[i].key, list.items[i].key_len);
    }
}

int crypt_recipients(const struct crypt_client *c UNUSED, const struct crypt_volume *v, int key_fd,
                     const char *recipients, uint64_t deadline UNUSED, char ret_mac[65],
                     struct error *err)
{
    const char key = key_of(key_fd);

    assert_true(key == named(v->record) && opens(key));
    demand_wrapped(recipients, key);
    if (play(SIGN, err) < 0)
        return -1;
    memcpy(ret_mac, MAC_LIST, 65);
    return 0;
}

int crypt_rekey(const struct crypt_client *c UNUSED, const struct crypt_volume *v, int key_fd,
                int new_key_fd, int backup_fd, const char *recipients, uint64_t deadline UNUSED,
                char ret_mac[65], struct error *err)
{
    const char old = key_of(key_fd), fresh = key_of(new_key_fd);

    assert_true(old == named(v->record) && opens(old) && v->lock_fd >= 0);
    assert_true(!opens(fresh) || record_is_client(v->record)); /* an orphan's, asked for again */
    assert_int_equal(write(backup_fd, "header", 6), 6);
    demand_wrapped(recipients, fresh);
    if (!opens(fresh) && (played.fails != REKEY || played.half))
        give_slot(fresh);
    if (play(REKEY, err) < 0)
        return -1;
    memcpy(ret_mac, MAC_NEW, 65);
    return 0;
}

int crypt_prune(const struct crypt_client *c UNUSED, const struct crypt_volume *v, int key_fd,
                uint64_t deadline UNUSED, char ret_mac[65], struct error *err)
{
    const char key[] = { key_of(key_fd), '\0' };

    assert_true(key[0] == named(v->record) && opens(key[0]) && v->record->stale_slots);
    if (played.fails != PRUNE || played.half)
        memcpy(played.slots, key, sizeof(key));
    if (play(PRUNE, err) < 0)
        return -1;
    memcpy(ret_mac, MAC_END, 65);
    return 0;
}

/* What other files of the node ask for; here nobody does. */
int crypt_list(const struct crypt_client *c UNUSED, uint64_t deadline UNUSED,
               struct mapping_list *ret UNUSED, struct error *err)
{
    return not_here(err);
}

void mapping_list_release(struct mapping_list *l UNUSED)
{
}

const struct mapping *mapping_find(const struct mapping_list *l UNUSED, const char *dm_name UNUSED)
{
    return NULL;
}

int crypt_check(const struct crypt_client *c UNUSED, const struct crypt_volume *v UNUSED,
                uint64_t deadline UNUSED, struct mapping *ret UNUSED, struct error *err)
{
    return not_here(err);
}

int crypt_close(const struct crypt_client *c UNUSED, const char *dm_name UNUSED,
                const char *dm_uuid UNUSED, int lock_fd UNUSED, uint64_t deadline UNUSED,
                struct error *err)
{
    return not_here(err);
}

/* ---- the volume ---- */

static int attach(struct volume *v UNUSED, struct block_device *ret UNUSED,
                  struct error *err UNUSED)
{
    return 0;
}

static inline struct record stored(void)
{
    struct record r;

    assert_works(b.node.pools->pools[0]->ops->peek_record(b.node.pools->pools[0], &b.id, &r, &err));
    return r;
}

static inline void store(void (*change)(struct record *r))
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    struct record r;

    assert_works(volume_open(b.node.pools->pools[0], &b.id, false, &v, &err));
    assert_works(v.pool->ops->read_record(&v, &r, &err));
    change(&r);
    assert_works(v.pool->ops->write_record(&v, &r, &err));
}

static inline bool backup_there(void)
{
    char path[5000];

    (void)snprintf(path, sizeof(path), "%s/volumes/%.2s/%s/header.backup", b.pool.path, b.id.hash,
                   b.id.hash);
    return access(path, F_OK) == 0;
}

static inline int setup(void **state)
{
    static struct backend_ops ops;

    memset(&b, 0, sizeof(b));
    memset(&played, 0, sizeof(played));
    played.fails = STEPS;
    set(played.slots, sizeof(played.slots), "A");
    b.t = tmpdir_make();
    b.node.locks = keylock_new();
    b.call.deadline = DEADLINE_NEVER;
    b.call.arena = arena_new(MIB(1));
    make_pool();
    make_record("ext4");
    ops = *b.node.pools->pools[0]->ops;
    ops.attach = attach;
    b.node.pools->pools[0]->ops = &ops;
    *state = NULL;
    return 0;
}

static inline int teardown(void **state UNUSED)
{
    pool_set_free(b.node.pools);
    keylock_free(b.node.locks);
    arena_free(b.call.arena);
    tmpdir_remove(&b.t);
    return 0;
}

#endif
