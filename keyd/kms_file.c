/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file:///path: a 32-byte master key in a file. For development: whoever reads the file reads every
 * volume. A wrapped key is the text "file:v1:" + base64(nonce 12 | ciphertext 32 | tag 16),
 * AES-256-GCM (NIST SP 800-38D) with the context as associated data. The nonce is random: at 2^32
 * keys per master key its collision bound would matter; a development pool doesn't get there.
 */
#include "common/base.h"
#include "keyd/kms.h"

#include "common/b64.h"
#include "common/strbuf.h"
#include "keyd/frame.h"
#include "recipient/libcrypto.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX         "file://"
#define TEXT_PREFIX    "file:v1:"
#define MASTER_BYTES   32u
#define NONCE_BYTES    12u
#define TAG_BYTES      16u
#define BLOB_BYTES     (NONCE_BYTES + KEY_BYTES + TAG_BYTES)
#define FORMAT_VERSION 1u

DEFINE_AUTO(evp_cipher_ctx_st, EVP_CIPHER_CTX_free)
#define AUTO_CIPHER __attribute__((cleanup(cleanup_evp_cipher_ctx_st)))

static int check_file(const char *path, const struct stat *st, struct error *err)
{
    if (!S_ISREG(st->st_mode))
        return error_set(err, ERR_PRECONDITION, "master key '%s' must be a regular file", path);
    if (st->st_uid != geteuid())
        return error_set(err, ERR_PERMISSION,
                         "master key '%s' must belong to uid %u, it belongs to uid %u", path,
                         geteuid(), st->st_uid);
    if ((st->st_mode & 07777) != 0600)
        return error_set(err, ERR_PERMISSION, "master key '%s' must have mode 0600, it has %04o",
                         path, st->st_mode & 07777);
    if (st->st_size != MASTER_BYTES)
        return error_set(err, ERR_PRECONDITION,
                         "master key '%s' must hold exactly %u bytes, it holds %lld", path,
                         MASTER_BYTES, (long long)st->st_size);
    return 0;
}

static int read_key(int fd, const char *path, struct secret *to, struct error *err)
{
    size_t got = 0;
    while (got < MASTER_BYTES) {
        ssize_t n = read(fd, secret_bytes(to) + got, MASTER_BYTES - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, errno, "read master key '%s'", path);
        if (n == 0)
            return error_set(err, ERR_PRECONDITION,
                             "master key '%s' became shorter while it was read", path);
        got += (size_t)n;
    }
    secret_set_len(to, MASTER_BYTES);
    return 0;
}

/* blob: the nonce in front is there already; ciphertext and tag are filled in. */
static int seal(const struct secret *master, const unsigned char *context,
                const struct secret *plain, unsigned char blob[BLOB_BYTES], struct error *err)
{
    int n = 0;
    unsigned char *ct = blob + NONCE_BYTES;
    AUTO_CIPHER EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (c == NULL ||
        EVP_EncryptInit_ex2(c, EVP_aes_256_gcm(), secret_data(master), blob, NULL) != 1 ||
        EVP_EncryptUpdate(c, NULL, &n, context, CONTEXT_SIZE) != 1 ||
        EVP_EncryptUpdate(c, ct, &n, secret_data(plain), KEY_BYTES) != 1 || n != KEY_BYTES ||
        EVP_EncryptFinal_ex(c, ct + n, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, ct + KEY_BYTES) != 1)
        return error_set(err, ERR_INTERNAL, "AES-256-GCM could not wrap a key");
    return 0;
}

/* Only a tag that doesn't fit says something of the key. */
static int unseal(const struct secret *master, const unsigned char *context,
                  unsigned char blob[BLOB_BYTES], struct secret *plain, struct error *err)
{
    int n = 0;
    unsigned char *ct = blob + NONCE_BYTES;
    AUTO_CIPHER EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    if (c == NULL ||
        EVP_DecryptInit_ex2(c, EVP_aes_256_gcm(), secret_data(master), blob, NULL) != 1 ||
        EVP_DecryptUpdate(c, NULL, &n, context, CONTEXT_SIZE) != 1 ||
        EVP_DecryptUpdate(c, secret_bytes(plain), &n, ct, KEY_BYTES) != 1 || n != KEY_BYTES ||
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, ct + KEY_BYTES) != 1)
        return error_set(err, ERR_INTERNAL, "AES-256-GCM could not open a key");
    if (EVP_DecryptFinal_ex(c, secret_bytes(plain) + n, &n) != 1)
        return kms_refuse_key(err);
    secret_set_len(plain, KEY_BYTES);
    return 0;
}

static int wrap_new(const struct secret *state, const struct kms_call *call,
                    struct keyd_wrapped *ret, struct error *err)
{
    AUTO_SECRET struct secret *plain = secret_new(KEY_BYTES, err);
    if (plain == NULL || secret_random(plain, KEY_BYTES, err) < 0)
        return -1;
    unsigned char blob[BLOB_BYTES];
    if (getrandom(blob, NONCE_BYTES, 0) != NONCE_BYTES)
        return error_errno(err, errno, "getrandom");
    libcrypto_watch();
    if (libcrypto_end(seal(state, call->context, plain, blob, err), err) < 0)
        return -1;
    char text[B64_LEN(BLOB_BYTES) + 1];
    b64_encode(text, blob, sizeof(blob));
    struct keyd_wrapped key = { .kind = "file", .version = FORMAT_VERSION };
    if (snprintf(key.ciphertext, sizeof(key.ciphertext), TEXT_PREFIX "%s", text) < 0)
        return error_set(err, ERR_INTERNAL, "the wrapped key could not be written");
    *ret = key;
    return 0;
}

static int unwrap(const struct secret *state, const struct kms_call *call,
                  const struct keyd_wrapped *key, struct secret **ret, struct error *err)
{
    if (call->token.len != 0)
        return error_set(err, ERR_INVALID, "a file key service takes no caller token");
    unsigned char blob[BLOB_BYTES];
    size_t len = 0, skip = strlen(TEXT_PREFIX);
    if (key->version != FORMAT_VERSION || strncmp(key->ciphertext, TEXT_PREFIX, skip) != 0 ||
        b64_decode(blob, sizeof(blob), key->ciphertext + skip, strlen(key->ciphertext + skip),
                   &len) < 0 ||
        len != sizeof(blob))
        return kms_refuse_key(err);
    AUTO_SECRET struct secret *plain = secret_new(KEY_BYTES, err);
    if (plain == NULL)
        return -1;
    libcrypto_watch();
    if (libcrypto_end(unseal(state, call->context, blob, plain, err), err) < 0)
        return -1;
    *ret = TAKE_PTR(plain);
    return 0;
}

/* Wraps and opens a throw-away key: proves the cipher works, and has OpenSSL load whatever it loads
 * at first use while files can still be opened. */
static int self_test(void *master, struct error *err)
{
    const unsigned char context[CONTEXT_SIZE] = { 0 };
    const struct kms_call call = { .context = context };
    struct keyd_wrapped key;
    AUTO_SECRET struct secret *plain = NULL;
    if (wrap_new(master, &call, &key, err) < 0 || unwrap(master, &call, &key, &plain, err) < 0)
        return error_prefix(err, "AES-256-GCM fails its self-test");
    return 0;
}

static void file_mint(void *state, struct kms_job *job)
{
    struct error err = ERROR_INIT;
    int r = wrap_new(state, &job->call, &job->wrapped, &err);
    kms_end(job, r < 0 ? &err : NULL);
}

static void file_unwrap(void *state, struct kms_job *job)
{
    struct error err = ERROR_INIT;
    int r = unwrap(state, &job->call, job->key, &job->plain, &err);
    kms_end(job, r < 0 ? &err : NULL);
}

static int file_open(const struct kms_config *config, const struct kms_env *env UNUSED,
                     void **ret_state, struct error *err)
{
    const char *path = config->uri + strlen(PREFIX);
    if (path[0] != '/')
        return error_set(err, ERR_INVALID, "uri '%s' must be file:// and an absolute path",
                         config->uri);
    /* O_NONBLOCK: a FIFO at the path must not hold us up before check_file refuses it. */
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno(err, errno, "open master key '%s'", path);
    if (check_file(path, &st, err) < 0)
        return -1;
    AUTO_SECRET struct secret *master = secret_new(MASTER_BYTES, err);
    if (master == NULL || read_key(fd, path, master, err) < 0 || self_test(master, err) < 0)
        return -1;
    *ret_state = TAKE_PTR(master);
    return 0;
}

static void file_close(void *state)
{
    secret_free(state);
}

const struct kms_driver kms_file = {
    .prefix = PREFIX,
    .kind = "file",
    .insecure = true,
    .open = file_open,
    .close = file_close,
    .mint = file_mint,
    .unwrap = file_unwrap,
};
