/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "device/key.h"

#include "common/fs.h"
#include "common/strbuf.h"
#include "recipient/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

struct device_key {
    struct private_key *private;
    struct device_public public;
};

/* --- a new one --- */

static int write_pem(BIO *pem, const char *path, struct error *err)
{
    char *data = NULL;
    const long len = BIO_get_mem_data(pem, &data);

    return fs_write_new(path, data, (size_t)len, 0600, err);
}

int device_key_create(const char *path, struct error *err)
{
    EVP_PKEY *key = EVP_RSA_gen(DEVICE_KEY_BITS);
    BIO *pem = BIO_new(BIO_s_secmem()); /* wiped when it is freed */
    int r;

    if (key == NULL || pem == NULL ||
        PEM_write_bio_PKCS8PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL) <= 0)
        r = error_set(err, ERR_INTERNAL, "libcrypto can't make a key pair");
    else
        r = write_pem(pem, path, err);
    BIO_free(pem);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return r;
}

/* --- public halves --- */

static int describe(const struct public_key *k, struct device_public *ret, struct error *err)
{
    struct device_public p;
    unsigned char der[PUBLIC_KEY_DER_MAX];
    size_t len = 0;

    if (public_key_kind(k) != PUBLIC_KEY_RSA)
        return error_set(err, ERR_INVALID, "a device's key must be RSA of 2048 to 4096 bits");
    if (public_key_arcs_fingerprint(k, p.name, err) < 0 || public_key_der(k, der, &len, err) < 0)
        return -1;
    memcpy(p.fingerprint, public_key_fingerprint(k), sizeof(p.fingerprint));
    b64_encode(p.text, der, len);
    *ret = p;
    return 0;
}

static int parse_text(const char *text, size_t len, struct public_key **ret, struct error *err)
{
    unsigned char der[PUBLIC_KEY_DER_MAX];
    size_t n = 0;

    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
        len--;
    if (b64_decode(der, sizeof(der), text, len, &n) == 0)
        return public_key_parse(der, n, ret, err);
    return public_key_parse(text, len, ret, err);
}

int device_public_parse(const char *text, size_t len, struct device_public *ret, struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *k = NULL;

    return parse_text(text, len, &k, err) < 0 ? -1 : describe(k, ret, err);
}

/* --- one that is there --- */

int device_key_parse(const struct secret *pem, struct device_key **ret, struct error *err)
{
    AUTO_DEVICE_KEY struct device_key *k = calloc(1, sizeof(*k));

    if (k == NULL)
        return error_memory(err);
    if (private_key_parse(pem, &k->private, err) < 0 ||
        describe(private_key_public(k->private), &k->public, err) < 0)
        return -1;
    *ret = TAKE_PTR(k);
    return 0;
}

static int check_mode(int fd, const char *path, struct error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_errno(err, errno, "stat '%s'", path);
    if (S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
        return error_set(err, ERR_PERMISSION,
                         "the key file '%s' is open to others (mode %04o): chmod 600 it", path,
                         (unsigned int)(st.st_mode & 07777));
    return 0;
}

static int read_whole(int fd, const char *path, struct secret *to, struct error *err)
{
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, secret_bytes(to) + len, secret_capacity(to) - len)) != 0) {
        if (n < 0 && errno != EINTR)
            return error_errno(err, errno, "read '%s'", path);
        if (n > 0)
            len += (size_t)n;
        if (len == secret_capacity(to))
            return error_set(err, ERR_INVALID, "'%s' is longer than %u bytes: it is no key file",
                             path, PRIVATE_KEY_MAX);
    }
    secret_set_len(to, len);
    return 0;
}

int device_key_load(const char *path, struct device_key **ret, struct error *err)
{
    AUTO_SECRET struct secret *pem = secret_new(PRIVATE_KEY_MAX + 1, err);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (pem == NULL)
        return -1;
    if (fd < 0)
        return error_errno(err, errno, "open the key file '%s'", path);
    if (check_mode(fd, path, err) < 0 || read_whole(fd, path, pem, err) < 0)
        return -1;
    return device_key_parse(pem, ret, err) < 0 ? error_prefix(err, "'%s'", path) : 0;
}

void device_key_free(struct device_key *k)
{
    if (k == NULL)
        return;
    private_key_free(k->private);
    free(k);
}

const char *device_key_name(const struct device_key *k)
{
    return k->public.name;
}

const char *device_key_fingerprint(const struct device_key *k)
{
    return k->public.fingerprint;
}

const char *device_key_public(const struct device_key *k)
{
    return k->public.text;
}

/* --- wrapping --- */

/* Only RSA-OAEP's rows: the other kind's needs what HPKE's info says. */
static int algorithm_of(const char *name, const struct wrap_algorithm **ret, struct error *err)
{
    const struct wrap_algorithm *a = wrap_algorithm(name);

    if (a == NULL || a->kind != PUBLIC_KEY_RSA)
        return error_set(err, ERR_INVALID, "'%.64s' is no algorithm of RSA keys", name);
    *ret = a;
    return 0;
}

int device_unwrap(const struct device_key *k, const char *algorithm, const char *wrapped,
                  struct secret **ret, struct error *err)
{
    const struct wrap_algorithm *a = NULL;
    unsigned char data[WRAPPED_MAX];
    size_t len = 0;

    if (algorithm_of(algorithm, &a, err) < 0)
        return -1;
    if (b64_decode(data, sizeof(data), wrapped, strlen(wrapped), &len) < 0)
        return error_set(err, ERR_INVALID, "what was wrapped for this device is no base64");
    return unwrap_key(a, k->private, (struct bytes){ "", 0 }, (struct bytes){ data, len }, ret,
                      err);
}

int device_wrap(const char *algorithm, const char *public_key, const struct secret *plain,
                char ret[DEVICE_WRAPPED_SIZE], struct error *err)
{
    AUTO_PUBLIC_KEY struct public_key *to = NULL;
    const struct wrap_algorithm *a = NULL;
    struct wrapped w;

    if (algorithm_of(algorithm, &a, err) < 0 ||
        parse_text(public_key, strlen(public_key), &to, err) < 0 ||
        wrap_key(a, to, (struct bytes){ "", 0 }, plain, &w, err) < 0)
        return -1;
    b64_encode(ret, w.data, w.len);
    return 0;
}
