/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c: what a user's device lends its key with (keySource client, docs/client-keys.md), in
 * the secrets of NodeStage and NodeExpand: `session`, `serverKey`, `fingerprint`. It lives in the
 * call's arena, which is wiped; no error quotes a value.
 */
#include "common/base.h"
#include "node/request.h"

#include "common/b64.h"
#include "common/parse.h"

static const char *find(const struct csi_map *secrets, const char *key)
{
    for (size_t i = 0; i < secrets->n; i++)
        if (strcmp(secrets->items[i].key, key) == 0)
            return secrets->items[i].value;
    return NULL;
}

static int read_form(struct arena *arena, const char *text, struct keyd_session *ret,
                     struct error *err)
{
    unsigned char *data = arena_alloc(arena, KEYD_SESSION_MAX);
    size_t len = 0;

    if (data == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the session");
    if (b64_decode(data, KEYD_SESSION_MAX, text, strlen(text), &len) < 0 || len == 0)
        return error_set(err, ERR_INVALID,
                         "secret 'session' must be base64 of 1 to %u bytes, without line ends",
                         KEYD_SESSION_MAX);
    ret->data = data;
    ret->len = len;
    return 0;
}

/* "<name>:<version>" */
static bool key_id_valid(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t version;

    return strlen(text) <= KEYD_SERVER_KEY_MAX && colon != NULL && colon != text &&
           parse_u64(colon + 1, &version) == 0 && version > 0;
}

static int check(const struct keyd_session *s, struct error *err)
{
    if (!key_id_valid(s->server_key))
        return error_set(err, ERR_INVALID,
                         "secret 'serverKey' must be the id of the server's key, NAME:VERSION");
    if (!hex_lower_valid(s->fingerprint, 64))
        return error_set(
            err, ERR_INVALID,
            "secret 'fingerprint' must be the 64 lower-case hex digits of the device's "
            "key");
    return 0;
}

static int missing(const char *key, struct error *err)
{
    return error_set(err, ERR_PRECONDITION,
                     "secret '%s' is missing: the user's device lends the volume's key (keySource "
                     "client) by 'session', 'serverKey' and 'fingerprint'",
                     key);
}

int request_session(struct node_op *op, struct arena *arena, const struct csi_map *secrets,
                    struct error *err)
{
    const char *text = find(secrets, "session");
    struct keyd_session s = { .server_key = find(secrets, "serverKey"),
                              .fingerprint = find(secrets, "fingerprint") };

    if (!record_is_client(&op->record) || text == NULL)
        return 0;
    if (s.server_key == NULL || s.fingerprint == NULL)
        return missing(s.server_key == NULL ? "serverKey" : "fingerprint", err);
    if (read_form(arena, text, &s, err) < 0 || check(&s, err) < 0)
        return -1;
    op->session = s;
    op->has_session = true;
    return 0;
}

int request_need_session(const struct node_op *op, struct error *err)
{
    struct recipient_list list;

    if (!op->has_session)
        return missing("session", err);
    if (recipients_decode(op->record.recipients, &list, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    if (recipients_find(&list, op->session.fingerprint) == NULL)
        return error_set(err, ERR_INVALID,
                         "the session is of a device that volume '%s' doesn't have among its "
                         "recipients",
                         op->id_text);
    return 0;
}
