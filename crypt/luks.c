/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/luks.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/leak.h"
#include "crypt/header.h"

#include <errno.h>
#include <libcryptsetup.h>
#include <sys/stat.h>

#define LOCK_DIR \
    "/run/cryptsetup" /* shared with the host's cryptsetup: its metadata locks live there */
#define SECTOR 512u   /* libcryptsetup counts offsets in these */

static char last_words[256]; /* of libcryptsetup, for the next error */

static void cleanup_device(struct crypt_device **cd)
{
    crypt_free(*cd);
}
#define AUTO_DEVICE __attribute__((cleanup(cleanup_device)))

static void keep_words(int level, const char *msg, void *ctx)
{
    if (level == CRYPT_LOG_ERROR)
        (void)snprintf(last_words, sizeof(last_words), "%.*s", (int)strcspn(msg, "\n"), msg);
}

int luks_setup(struct error *err)
{
    crypt_token_external_disable(); /* a header's token names a plug-in to load */
    crypt_set_log_callback(NULL, keep_words, NULL);
    if (mkdir(LOCK_DIR, 0700) < 0 && errno != EEXIST)
        return error_errno(err, errno, "make '%s'", LOCK_DIR);
    return 0;
}

void luks_release(struct luks *l)
{
    crypt_free(l->cd);
    cleanup_close(&l->memfd);
    *l = (struct luks)LUKS_INIT;
}

PRINTF_LIKE(3, 4)
static int luks_error(struct error *err, int r, const char *fmt, ...)
{
    char what[200];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    if (last_words[0] != '\0')
        return error_errno(err, -r, "%s: libcryptsetup: %s", what, last_words);
    return error_errno(err, -r, "%s", what);
}

/* --- format --- */

static const struct crypt_pbkdf_type pbkdf = {
    .type = CRYPT_KDF_PBKDF2, /* the secret is 256 random bits: stretching it buys nothing */
    .hash = "sha256",
    .iterations = 1000,
    .flags = CRYPT_PBKDF_NO_BENCHMARK,
};

static int set_geometry(struct crypt_device *cd, struct error *err)
{
    int r = crypt_set_data_offset(cd, GEOMETRY_DATA_OFFSET / SECTOR);

    if (r == 0)
        r = crypt_set_metadata_size(cd, GEOMETRY_METADATA_SIZE, GEOMETRY_KEYSLOTS_SIZE);
    if (r == 0)
        r = crypt_set_pbkdf_type(cd, &pbkdf);
    return r < 0 ? luks_error(err, r, "set up the LUKS2 format") : 0;
}

static int write_header(struct crypt_device *cd, const char *uuid, struct error *err)
{
    struct crypt_params_luks2 params = { .pbkdf = &pbkdf, .sector_size = GEOMETRY_SECTOR };
    int r;

    last_words[0] = '\0';
    r = crypt_format(cd, CRYPT_LUKS2, "aes", "xts-plain64", uuid, NULL, GEOMETRY_KEY_BITS / 8,
                     &params);
    return r < 0 ? luks_error(err, r, "format LUKS2") : 0;
}

static int add_keyslot(struct crypt_device *cd, const struct secret *passphrase, struct error *err)
{
    int r = crypt_keyslot_set_encryption(cd, GEOMETRY_CIPHER, GEOMETRY_KEY_BITS / 8);

    last_words[0] = '\0';
    if (r == 0)
        r = crypt_keyslot_add_by_volume_key(cd, 0, NULL, 0, (const char *)secret_data(passphrase),
                                            secret_len(passphrase));
    return r < 0 ? luks_error(err, r, "add keyslot 0") : 0;
}

int luks_format(const char *path, const char *uuid, const struct secret *passphrase,
                struct error *err)
{
    AUTO_DEVICE struct crypt_device *cd = NULL;
    int r;

    last_words[0] = '\0';
    r = crypt_init(&cd, path);
    if (r < 0)
        return luks_error(err, r, "open the device for the LUKS2 format");
    if (set_geometry(cd, err) < 0 || write_header(cd, uuid, err) < 0)
        return -1;
    FAULT_POINT("crypt:format:header");
    if (add_keyslot(cd, passphrase, err) < 0)
        return -1;
    FAULT_POINT("crypt:format:keyslot");
    return 0;
}

/* --- load --- */

static int check_sizes(struct crypt_device *cd, struct error *err)
{
    uint64_t metadata = 0, keyslots = 0;

    if (crypt_get_metadata_size(cd, &metadata, &keyslots) < 0 ||
        metadata != GEOMETRY_METADATA_SIZE || keyslots != GEOMETRY_KEYSLOTS_SIZE)
        return error_set(err, ERR_DATA_LOSS,
                         "LUKS2 header: its areas have %llu and %llu bytes instead of %u and %u",
                         (unsigned long long)metadata, (unsigned long long)keyslots,
                         GEOMETRY_METADATA_SIZE, GEOMETRY_KEYSLOTS_SIZE);
    return 0;
}

static int check_identity(struct crypt_device *cd, const char *uuid, struct error *err)
{
    const char *found = crypt_get_uuid(cd);

    if (found == NULL || strcmp(found, uuid) != 0)
        return error_set(err, ERR_DATA_LOSS, "LUKS2 header: its uuid is '%.40s' instead of '%s'",
                         found != NULL ? found : "", uuid);
    return check_sizes(cd, err);
}

static int check_allowed(struct crypt_device *cd, const char *digest, struct header_facts *ret,
                         struct error *err)
{
    const char *json = NULL;

    if (crypt_dump_json(cd, &json, 0) < 0 || json == NULL)
        return error_memory(err); /* it is loaded: there is nothing else that it could lack */
    if (allow_metadata(json, strlen(json), ret, err) < 0)
        return -1;
    if (digest != NULL && strcmp(ret->digest, digest) != 0)
        return error_set(err, ERR_DATA_LOSS,
                         "LUKS2 header: its digest isn't the one in the record: another volume key "
                         "was put there");
    return 0;
}

/* Fills l->cd and l->facts from l->memfd. */
static int load_memfd(struct luks *l, int device_fd, const char *uuid, const char *digest,
                      struct error *err)
{
    char header[FD_PATH_MAX], data[FD_PATH_MAX];
    int r;

    fd_path(l->memfd, header);
    fd_path(device_fd, data);
    last_words[0] = '\0';
    r = crypt_init_data_device(&l->cd, header, data);
    if (r < 0)
        return luks_error(err, r, "look at the header's copy");
    r = crypt_load(l->cd, CRYPT_LUKS2,
                   NULL); /* never NULL as type: that tries every parser there is */
    if (r == -EINVAL)
        return error_set(err, ERR_DATA_LOSS, "the device holds no usable LUKS2 header%s%s",
                         last_words[0] != '\0' ? ": " : "", last_words);
    if (r < 0) /* it wasn't read */
        return luks_error(err, r, "load the LUKS2 header");
    if (check_identity(l->cd, uuid, err) < 0)
        return -1;
    return check_allowed(l->cd, digest, &l->facts, err);
}

int luks_load(int device_fd, const char *uuid, const char *digest, struct luks *ret,
              struct error *err)
{
    AUTO_LUKS struct luks l = LUKS_INIT;

    if (header_seal(device_fd, &l.memfd, err) < 0 ||
        load_memfd(&l, device_fd, uuid, digest, err) < 0)
        return -1;
    *ret = l;
    l = (struct luks)LUKS_INIT;
    return 0;
}

/* --- use --- */

#ifdef COFFER_LEAKY
static void leak_volume_key(struct crypt_device *cd, const struct secret *passphrase)
{
    char key[GEOMETRY_KEY_BITS / 8];
    size_t size = sizeof(key);

    if (crypt_volume_key_get(cd, CRYPT_ANY_SLOT, key, &size, (const char *)secret_data(passphrase),
                             secret_len(passphrase)) >= 0)
        LEAK("crypt:volume-key", key, size);
}
#endif

/* Tries the slots that are there, each by its number (a search over all would also try foreign
 * ones). */
static int unlock(struct crypt_device *cd, const struct header_facts *facts, const char *name,
                  const struct secret *passphrase, uint32_t flags, struct error *err)
{
    int r = -ENOENT;

    for (int slot = 0; slot < (int)GEOMETRY_SLOTS; slot++) {
        if (!facts->slot[slot])
            continue;
        last_words[0] = '\0';
        r = crypt_activate_by_passphrase(cd, name, slot, (const char *)secret_data(passphrase),
                                         secret_len(passphrase), flags);
        if (r >= 0)
            return 0;
        if (r != -EPERM)
            return luks_error(err, r, "open the volume by keyslot %d", slot);
    }
    return error_set(err, ERR_PRECONDITION, "the storage key opens no keyslot of the volume");
}

int luks_opens(struct luks *l, const struct secret *passphrase, bool ret[GEOMETRY_SLOTS],
               struct error *err)
{
    bool opens[GEOMETRY_SLOTS] = { false };

    for (int slot = 0; slot < (int)GEOMETRY_SLOTS; slot++) {
        if (!l->facts.slot[slot])
            continue;
        last_words[0] = '\0';
        int r = crypt_activate_by_passphrase(
            l->cd, NULL, slot, (const char *)secret_data(passphrase), secret_len(passphrase), 0);
        if (r < 0 && r != -EPERM)
            return luks_error(err, r, "try keyslot %d", slot);
        opens[slot] = r >= 0;
    }
    memcpy(ret, opens, sizeof(opens));
    return 0;
}

/* --- change --- */

/* What libcryptsetup found damaged or older it has written again, from the other copy. */
static int find_mended(struct luks *l, const struct luks *from, struct error *err)
{
    AUTO_FREE char *before = header_aligned(GEOMETRY_HEADER_READ, err);
    AUTO_FREE char *after = header_aligned(GEOMETRY_HEADER_READ, err);

    if (before == NULL || after == NULL || header_memfd_read(from->memfd, before, err) < 0 ||
        header_memfd_read(l->memfd, after, err) < 0)
        return -1;
    l->primary_stale = memcmp(before, after, GEOMETRY_METADATA_SIZE) != 0;
    return 0;
}

int luks_copy(const struct luks *from, int device_fd, const char *uuid, struct luks *ret,
              struct error *err)
{
    AUTO_LUKS struct luks l = LUKS_INIT;

    if (header_memfd_copy(from->memfd, &l.memfd, err) < 0 ||
        load_memfd(&l, device_fd, uuid, from->facts.digest, err) < 0 ||
        find_mended(&l, from, err) < 0)
        return -1;
    *ret = l;
    l = (struct luks)LUKS_INIT;
    return 0;
}

int luks_add_slot(struct luks *copy, int slot, const struct secret *opener,
                  const struct secret *passphrase, struct error *err)
{
    int r = crypt_set_pbkdf_type(copy->cd, &pbkdf);

    last_words[0] = '\0';
    if (r == 0)
        r = crypt_keyslot_set_encryption(copy->cd, GEOMETRY_CIPHER, GEOMETRY_KEY_BITS / 8);
    if (r == 0)
        r = crypt_keyslot_add_by_passphrase(
            copy->cd, slot, (const char *)secret_data(opener), secret_len(opener),
            (const char *)secret_data(passphrase), secret_len(passphrase));
    if (r < 0)
        return luks_error(err, r, "add keyslot %d", slot);
    copy->facts.slot[slot] = true;
    return 0;
}

int luks_kill_slot(struct luks *copy, int slot, struct error *err)
{
    last_words[0] = '\0';
    int r = crypt_keyslot_destroy(copy->cd, slot);
    if (r < 0)
        return luks_error(err, r, "destroy keyslot %d", slot);
    copy->facts.slot[slot] = false;
    return 0;
}

int luks_finish(struct luks *copy, int device_fd, const char *uuid, struct error *err)
{
    AUTO_LUKS struct luks l = LUKS_INIT;
    char digest[sizeof(copy->facts.digest)];

    memcpy(digest, copy->facts.digest, sizeof(digest));
    if (header_memfd_seal(copy->memfd, err) < 0)
        return -1;
    l.memfd = TAKE_FD(copy->memfd);
    l.primary_stale = copy->primary_stale;
    luks_release(copy);
    if (load_memfd(&l, device_fd, uuid, digest, err) < 0)
        return -1;
    *copy = l;
    l = (struct luks)LUKS_INIT;
    return 0;
}

int luks_verify(struct luks *l, const struct secret *passphrase, struct error *err)
{
    return unlock(l->cd, &l->facts, NULL, passphrase, 0, err);
}

int luks_activate(struct luks *l, const char *name, const struct secret *passphrase, bool read_only,
                  bool discards, struct error *err)
{
    /* KEYRING_KEY: no kernel keyring is an error, not a key in the table. IGNORE_PERSISTENT: flags
     * in the header are the disk's wishes. PRIVATE: udev isn't to look inside. */
    uint32_t flags =
        CRYPT_ACTIVATE_KEYRING_KEY | CRYPT_ACTIVATE_PRIVATE | CRYPT_ACTIVATE_IGNORE_PERSISTENT;

    if (read_only)
        flags |= CRYPT_ACTIVATE_READONLY;
    if (discards)
        flags |= CRYPT_ACTIVATE_ALLOW_DISCARDS;
    LEAK_DO(leak_volume_key(l->cd, passphrase));
    return unlock(l->cd, &l->facts, name, passphrase, flags, err);
}

int luks_resize(struct luks *l, const char *name, const struct secret *passphrase,
                struct error *err)
{
    AUTO_DEVICE struct crypt_device *cd = NULL;
    char header[FD_PATH_MAX];
    int r;

    fd_path(l->memfd, header);
    last_words[0] = '\0';
    r = crypt_init_by_name_and_header(&cd, name, header);
    if (r < 0)
        return luks_error(err, r, "look at mapping '%s'", name);
    /* the volume key goes into this thread's keyring: the live one can't be read back */
    if (unlock(cd, &l->facts, NULL, passphrase, CRYPT_ACTIVATE_KEYRING_KEY, err) < 0)
        return -1;
    FAULT_POINT("crypt:resize:unlocked");
    r = crypt_resize(cd, name, 0);
    return r < 0 ? luks_error(err, r, "resize mapping '%s'", name) : 0;
}
