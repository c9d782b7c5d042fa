/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/certificate.h"

#include "common/deadline.h"
#include "common/log.h"
#include "common/wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK      4096u
#define KEY_ID_LEN 32u /* SHA-256 */

struct pair {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned int n; /* of chain */
    gnutls_privkey_t key;
    uint64_t expires;
};

/* By which a file is known to be another one, or written again. */
struct stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct certificate {
    struct certificate_files files;
    uint64_t keep_ms;
    struct stamp stamps[2]; /* before they were read; of chain and key */
    struct pair *retired;   /* NULL: none */
    uint64_t retired_until; /* clock_ms() */
    struct error problem;   /* told already */

    pthread_mutex_t lock;
    struct pair *shown;
};

/* ---- two PEM files, and a pair ---- */

static void pair_free(struct pair *p)
{
    if (p == NULL)
        return;
    for (unsigned int i = 0; i < p->n; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    if (p->key != NULL)
        gnutls_privkey_deinit(p->key);
    free(p);
}
DEFINE_AUTO(pair, pair_free)
#define AUTO_PAIR __attribute__((cleanup(cleanup_pair)))

static int gnutls_problem(struct error *err, int code, const char *path, const char *what)
{
    if (code == GNUTLS_E_MEMORY_ERROR)
        return error_memory(err);
    return error_set(err, ERR_INVALID, "'%s' %s: %s", path, what, gnutls_strerror(code));
}

static int read_chunks(int fd, const char *path, char *chunk, struct wipe_buffer *to,
                       struct error *err)
{
    ssize_t n;

    while ((n = read(fd, chunk, CHUNK)) > 0) {
        if ((size_t)n > PEM_MAX - to->len)
            return error_set(err, ERR_INVALID, "'%s' is too long for a PEM file", path);
        if (wipe_buffer_add(to, chunk, (size_t)n, PEM_MAX) < 0)
            return error_memory(err);
    }
    if (n < 0)
        return error_errno(err, errno, "read '%s'", path);
    return to->len > 0 ? 0 : error_set(err, ERR_INVALID, "'%s' is empty", path);
}

/* In memory that is wiped: GnuTLS makes a copy of its own. */
static int read_pem(const char *path, struct wipe_buffer *to, struct error *err)
{
    char chunk[CHUNK];
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    r = read_chunks(fd, path, chunk, to, err);
    explicit_bzero(chunk, sizeof(chunk));
    return r;
}

static gnutls_datum_t datum(const struct wipe_buffer *b)
{
    return (gnutls_datum_t){ .data = (unsigned char *)b->bytes, .size = (unsigned int)b->len };
}

/* The chain as a client wants it: each certificate followed by the one that signed it. */
static int import_chain(struct pair *p, const char *path, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer pem = WIPE_BUFFER_INIT;
    gnutls_x509_crt_t certificates[CHAIN_MAX];
    unsigned int n = CHAIN_MAX, n_chain;
    gnutls_datum_t data;
    int r;

    if (read_pem(path, &pem, err) < 0)
        return -1;
    data = datum(&pem);
    r = gnutls_x509_crt_list_import(certificates, &n, &data, GNUTLS_X509_FMT_PEM,
                                    GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    if (r < 0)
        return gnutls_problem(err, r, path, "isn't a chain of certificates in PEM");
    n_chain = n;
    r = gnutls_pcert_import_x509_list(p->chain, certificates, &n_chain, GNUTLS_X509_CRT_LIST_SORT);
    p->n = r < 0 ? 0 : n_chain;
    p->expires = UINT64_MAX;
    for (unsigned int i = 0; i < n; i++) {
        /* -1 where it says none: the latest */
        uint64_t end = (uint64_t)gnutls_x509_crt_get_expiration_time(certificates[i]);

        p->expires = end < p->expires ? end : p->expires;
        gnutls_x509_crt_deinit(certificates[i]);
    }
    return r < 0 ? gnutls_problem(err, r, path, "isn't a chain of certificates") : 0;
}

static int import_key(struct pair *p, const char *path, struct error *err)
{
    AUTO_WIPE_BUFFER struct wipe_buffer pem = WIPE_BUFFER_INIT;
    gnutls_datum_t data;
    int r;

    if (read_pem(path, &pem, err) < 0)
        return -1;
    data = datum(&pem);
    r = gnutls_privkey_init(&p->key);
    if (r >= 0)
        r = gnutls_privkey_import_x509_raw(p->key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    return r < 0 ? gnutls_problem(err, r, path, "isn't a private key in PEM") : 0;
}

static int key_id(gnutls_pubkey_t key, unsigned char id[KEY_ID_LEN])
{
    size_t len = KEY_ID_LEN;

    return gnutls_pubkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, id, &len);
}

static int check_same_key(const struct pair *p, const struct certificate_files *files,
                          struct error *err)
{
    unsigned char of_chain[KEY_ID_LEN], of_key[KEY_ID_LEN];
    gnutls_pubkey_t public;
    int r = gnutls_pubkey_init(&public);

    if (r < 0)
        return gnutls_problem(err, r, files->key, "has no public half");
    r = gnutls_pubkey_import_privkey(public, p->key, 0, 0);
    if (r >= 0)
        r = key_id(public, of_key);
    if (r >= 0)
        r = key_id(p->chain[0].pubkey, of_chain);
    gnutls_pubkey_deinit(public);
    if (r < 0)
        return gnutls_problem(err, r, files->key, "has no public half");
    if (memcmp(of_chain, of_key, KEY_ID_LEN) != 0)
        return error_set(err, ERR_INVALID, "'%s' isn't the key of the certificate in '%s'",
                         files->key, files->chain);
    return 0;
}

static int pair_read(const struct certificate_files *files, struct pair **ret, struct error *err)
{
    AUTO_PAIR struct pair *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return error_memory(err);
    if (import_chain(p, files->chain, err) < 0 || import_key(p, files->key, err) < 0 ||
        check_same_key(p, files, err) < 0)
        return -1;
    *ret = TAKE_PTR(p);
    return 0;
}

/* ---- which one is shown ---- */

/* What can't be asked now is read, to learn why. */
static struct stamp stamp_of(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return (struct stamp){ .inode = 0 };
    return (struct stamp){
        .device = st.st_dev, .inode = st.st_ino, .size = st.st_size, .changed = st.st_mtim
    };
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->inode != 0 && a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void log_shown(const struct certificate *c, const char *what)
{
    const uint64_t now = (uint64_t)time(NULL);

    if (c->shown->expires <= now)
        log_warn("the certificate has expired", KV("file", c->files.chain));
    else
        log_info(what, KV("file", c->files.chain), KV("days", (c->shown->expires - now) / 86400));
}

int certificate_open(const struct certificate_files *files, uint64_t keep_ms,
                     struct certificate **ret, struct error *err)
{
    AUTO_CERTIFICATE struct certificate *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return error_memory(err);
    (void)pthread_mutex_init(&c->lock, NULL);
    c->files = *files;
    c->keep_ms = keep_ms;
    c->stamps[0] = stamp_of(files->chain);
    c->stamps[1] = stamp_of(files->key);
    if (pair_read(files, &c->shown, err) < 0)
        return -1;
    log_shown(c, "certificate read");
    *ret = TAKE_PTR(c);
    return 0;
}

void certificate_free(struct certificate *c)
{
    if (c == NULL)
        return;
    pair_free(c->retired);
    pair_free(c->shown);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
}

static void replace(struct certificate *c, struct pair *next)
{
    c->retired = c->shown;
    c->retired_until = deadline_in(c->keep_ms);
    (void)pthread_mutex_lock(&c->lock);
    c->shown = next;
    (void)pthread_mutex_unlock(&c->lock);
    c->problem = (struct error)ERROR_INIT;
    log_shown(c, "a new certificate is shown");
}

static void tell_once(struct certificate *c, const struct error *err)
{
    if (strcmp(c->problem.msg, err->msg) == 0)
        return;
    c->problem = *err;
    log_warn("the certificate on disk can't be shown: the one before it stays",
             KV("error", err->msg));
}

bool certificate_renew(struct certificate *c)
{
    const struct stamp now[2] = { stamp_of(c->files.chain), stamp_of(c->files.key) };
    struct error err = ERROR_INIT;
    struct pair *next = NULL;

    if (c->retired != NULL && deadline_left(c->retired_until) > 0)
        return false; /* room for one: the next look is soon */
    pair_free(TAKE_PTR(c->retired));
    if (same_stamp(&now[0], &c->stamps[0]) && same_stamp(&now[1], &c->stamps[1]))
        return false;
    if (pair_read(&c->files, &next, &err) < 0) {
        tell_once(c, &err); /* and try again: the stamps stay */
        return false;
    }
    memcpy(c->stamps, now, sizeof(now));
    replace(c, next);
    return true;
}

void certificate_show(struct certificate *c, gnutls_pcert_st **chain, unsigned int *n,
                      gnutls_privkey_t *key)
{
    (void)pthread_mutex_lock(&c->lock);
    *chain = c->shown->chain;
    *n = c->shown->n;
    *key = c->shown->key;
    (void)pthread_mutex_unlock(&c->lock);
}

uint64_t certificate_expires(struct certificate *c)
{
    uint64_t ret;

    (void)pthread_mutex_lock(&c->lock);
    ret = c->shown->expires;
    (void)pthread_mutex_unlock(&c->lock);
    return ret;
}
