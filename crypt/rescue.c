/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/rescue.h"

#include "common/cleanup.h"
#include "common/deadline.h"
#include "keyd/frame.h"
#include "recipient/unwrap.h"
#include "volume/context.h"
#include "volume/recipients.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* --- the private key --- */

/* 1: there is something to read, or the end of it. */
static int wait_readable(int fd, uint64_t deadline, struct error *err)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    int r = poll(&p, 1, deadline_poll_timeout(deadline));

    if (r < 0 && errno != EINTR)
        return error_errno(err, errno, "wait for the private key");
    if (r <= 0 && deadline_left(deadline) == 0)
        return error_set(err, ERR_DEADLINE, "no private key came in time");
    return r > 0 ? 1 : 0;
}

int rescue_read_private_key(int fd, uint64_t deadline, struct secret **ret, struct error *err)
{
    AUTO_SECRET struct secret *pem = secret_new(PRIVATE_KEY_MAX + 1, err);
    size_t have = 0;
    ssize_t n = 1;

    if (pem == NULL)
        return -1;
    while (n != 0) {
        int ready = wait_readable(fd, deadline, err);

        if (ready < 0)
            return -1;
        if (ready == 0)
            continue;
        n = read(fd, secret_bytes(pem) + have, PRIVATE_KEY_MAX + 1 - have);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return error_errno(err, errno, "read the private key");
        have += n > 0 ? (size_t)n : 0;
        if (have > PRIVATE_KEY_MAX)
            return error_set(err, ERR_INVALID, "the private key has more than %u bytes",
                             PRIVATE_KEY_MAX);
    }
    secret_set_len(pem, have);
    *ret = TAKE_PTR(pem);
    return 0;
}

/* --- whom it is for --- */

static int find(struct recipient_list *list, const struct private_key *own, const struct record *r,
                const struct recipient **ret, struct error *err)
{
    const char *fingerprint = public_key_fingerprint(private_key_public(own));

    if (recipients_decode(r->recipients, list, err) < 0) {
        (void)error_prefix(err, "the record of volume '%s'", r->id);
        return error_recode(err, ERR_DATA_LOSS);
    }
    *ret = recipients_find(list, fingerprint);
    if (*ret != NULL)
        return 0;
    if (list->n == 0)
        return error_set(err, ERR_PRECONDITION,
                         "the record of volume '%s' names no recipient: no private key opens it",
                         r->id);
    return error_set(err, ERR_PRECONDITION,
                     "the private key is none of the recipients' of volume '%s' (the fingerprint "
                     "of its public half is %s)",
                     r->id, fingerprint);
}

static int open_wrapped(const struct private_key *own, const struct recipient *from,
                        const struct record *r, struct secret **ret, struct error *err)
{
    const struct wrap_algorithm *a = wrap_algorithm(from->algorithm);
    unsigned char context[CONTEXT_SIZE], info[CONTEXT_RECIPIENT_SIZE];

    if (a == NULL)
        return error_set(err, ERR_DATA_LOSS, "there is no algorithm '%s'", from->algorithm);
    context_compute(r->tenant, r->id, r->uuid, context);
    context_recipient(context, info);
    return unwrap_key(a, own, (struct bytes){ info, sizeof(info) },
                      (struct bytes){ from->wrapped, from->wrapped_len }, ret, err);
}

int rescue_storage_key(const struct secret *pem, const struct record *r, struct secret **ret,
                       struct error *err)
{
    AUTO_PRIVATE_KEY struct private_key *own = NULL;
    AUTO_FREE struct recipient_list *list = calloc(1, sizeof(*list));
    AUTO_SECRET struct secret *key = NULL;
    const struct recipient *from = NULL;

    if (list == NULL)
        return error_memory(err);
    if (private_key_parse(pem, &own, err) < 0 || find(list, own, r, &from, err) < 0 ||
        open_wrapped(own, from, r, &key, err) < 0)
        return -1;
    if (secret_len(key) != KEY_BYTES)
        return error_set(err, ERR_DATA_LOSS, "what was wrapped has %zu bytes, not a key's %u",
                         secret_len(key), KEY_BYTES);
    *ret = TAKE_PTR(key);
    return 0;
}
