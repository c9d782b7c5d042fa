/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/escrow.h"

#include "common/b64.h"
#include "common/cleanup.h"
#include "common/fs.h"
#include "common/strbuf.h"

#include <errno.h>
#include <fcntl.h>

#define PEM_MAX   4096u
#define PEM_BEGIN "-----BEGIN PUBLIC KEY-----"
#define PEM_END   "-----END PUBLIC KEY-----"

/* RFC 8410 §4: all that stands before the 32 bytes of an X25519 key. */
static const unsigned char x25519[] = { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                        0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00 };
#define X25519_LEN (sizeof(x25519) + 32)

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

/* True: `text` stands at *p, which moves behind it. */
static bool take(const char **p, const char *end, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(end - *p) < len || memcmp(*p, text, len) != 0)
        return false;
    *p += len;
    return true;
}

/* The base64 text between the two lines, without the ends of its lines. */
static int take_body(const char **p, const char *end, struct strbuf *ret)
{
    for (*p = skip_space(*p, end); *p < end && **p != '-'; *p = skip_space(*p, end))
        strbuf_add(ret, (*p)++, 1);
    return strbuf_check(ret, "key", NULL);
}

static bool split(const char *text, size_t len, struct strbuf *body)
{
    const char *p = text, *end = text + len;

    return take(&p, end, PEM_BEGIN) && take_body(&p, end, body) == 0 && take(&p, end, PEM_END) &&
           skip_space(p, end) == end;
}

static bool is_x25519(const struct recipient *r)
{
    return r->key_len == X25519_LEN && memcmp(r->key, x25519, sizeof(x25519)) == 0;
}

int escrow_decode(const char *text, size_t len, struct recipient *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf body = STRBUF_INIT(PEM_MAX);
    struct recipient r = { .label = ESCROW_LABEL };

    bool whole = split(text, len, &body);
    if (body.no_memory)
        return error_memory(err);
    if (!whole || body.len == 0 ||
        b64_decode(r.key, sizeof(r.key), strbuf_text(&body), body.len, &r.key_len) < 0)
        return error_set(err, ERR_PRECONDITION,
                         "it must be one public key in PEM (" PEM_BEGIN "), with nothing beside "
                         "it");
    (void)snprintf(r.algorithm, sizeof(r.algorithm), "%s",
                   is_x25519(&r) ? RECIPIENT_X25519 : RECIPIENT_RSA);
    *ret = r;
    return 0;
}

static int read_file(const char *path, struct recipient *ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(PEM_MAX);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return error_errno(err, errno, "open '%s'", path);
    if (fs_read_fd(fd, path, PEM_MAX, &text, err) < 0)
        return -1;
    return escrow_decode(strbuf_text(&text), text.len, ret, err);
}

int escrow_read(const char *path, struct recipient *ret, struct error *err)
{
    if (read_file(path, ret, err) == 0)
        return 0;
    (void)error_prefix(err, "the escrow key '%s'", path);
    return error_recode(err, ERR_PRECONDITION);
}
