/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.c: what a user's device lends its key with (keySource client, docs/client-keys.md), in
 * the secrets of NodeStage, NodeExpand and NodeAdmin: `session`, `serverKey`, `fingerprint`; and
 * what it brings another key with, in new_secrets. It lives in the call's arena, which is wiped; no
 * error quotes a value.
 */
#include "common/base.h"
#include "node/request.h"

#include "common/b64.h"
#include "common/parse.h"
#include "volume/commitment.h"

/* what: "secret", "new secret" */
static int read_form(struct arena *arena, const char *what, const char *text,
                     struct keyd_session *ret, struct error *err)
{
    unsigned char *data = arena_alloc(arena, KEYD_SESSION_MAX);
    size_t len = 0;

    if (data == NULL)
        return error_set(err, ERR_EXHAUSTED, "out of memory for the session");
    if (b64_decode(data, KEYD_SESSION_MAX, text, strlen(text), &len) < 0 || len == 0)
        return error_set(err, ERR_INVALID,
                         "%s 'session' must be base64 of 1 to %u bytes, without line ends", what,
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

static int check(const char *what, const struct keyd_session *s, struct error *err)
{
    if (!key_id_valid(s->server_key))
        return error_set(err, ERR_INVALID,
                         "%s 'serverKey' must be the id of the server's key, NAME:VERSION", what);
    if (!hex_lower_valid(s->fingerprint, 64))
        return error_set(
            err, ERR_INVALID,
            "%s 'fingerprint' must be the 64 lower-case hex digits of the device's key", what);
    return 0;
}

static int missing(const char *what, const char *key, struct error *err)
{
    return error_set(err, ERR_PRECONDITION,
                     "%s '%s' is missing: the user's device lends the volume's key (keySource "
                     "client) by 'session', 'serverKey' and 'fingerprint'",
                     what, key);
}

static int read_session(struct arena *arena, const char *what, const struct csi_map *secrets,
                        struct keyd_session *ret, struct error *err)
{
    const char *text = csi_map_get(secrets, "session");
    struct keyd_session s = { .server_key = csi_map_get(secrets, "serverKey"),
                              .fingerprint = csi_map_get(secrets, "fingerprint") };

    if (text == NULL || s.server_key == NULL || s.fingerprint == NULL)
        return missing(what,
                       text == NULL           ? "session"
                       : s.server_key == NULL ? "serverKey"
                                              : "fingerprint",
                       err);
    if (read_form(arena, what, text, &s, err) < 0 || check(what, &s, err) < 0)
        return -1;
    *ret = s;
    return 0;
}

int request_session(struct node_op *op, struct arena *arena, const struct csi_map *secrets,
                    struct error *err)
{
    if (!record_is_client(&op->record) || csi_map_get(secrets, "session") == NULL)
        return 0;
    if (read_session(arena, "secret", secrets, &op->session, err) < 0)
        return -1;
    op->has_session = true;
    return 0;
}

int request_new_key(const struct node_op *op, struct arena *arena, const struct csi_map *secrets,
                    struct new_key *ret, struct error *err)
{
    struct new_key key = { .given = secrets->n > 0, .forms = csi_map_get(secrets, "recipients") };
    const char *commitment = csi_map_get(secrets, "commitment");

    if (key.given && !record_is_client(&op->record))
        return error_set(err, ERR_INVALID,
                         "the key of volume '%s' is its key service's to make: new secrets are for "
                         "keySource client",
                         op->id_text);
    if (key.given && read_session(arena, "new secret", secrets, &key.session, err) < 0)
        return -1;
    if (key.given && (commitment == NULL || !hex_lower_valid(commitment, COMMITMENT_LEN)))
        return error_set(err, ERR_INVALID,
                         "new secret 'commitment' must be the %u lower-case hex digits of the new "
                         "key's",
                         COMMITMENT_LEN);
    if (key.given && key.forms == NULL)
        return error_set(err, ERR_INVALID,
                         "new secret 'recipients' is missing: the new key, wrapped for each of "
                         "those who stay");
    key.session.commitment = commitment;
    *ret = key;
    return 0;
}

int request_need_session(const struct node_op *op, struct error *err)
{
    struct recipient_list list;

    if (!op->has_session)
        return missing("secret", "session", err);
    if (recipients_decode(op->record.recipients, &list, err) < 0)
        return error_recode(err, ERR_DATA_LOSS);
    if (recipients_find(&list, op->session.fingerprint) == NULL)
        return error_set(err, ERR_INVALID,
                         "the session is of a device that volume '%s' doesn't have among its "
                         "recipients",
                         op->id_text);
    return 0;
}
