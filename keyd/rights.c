/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/rights.h"

#include "keyd/ops.h"

#define PAIR_MAX 128u

/* OPS of "USER:GROUP:OPS"; NULL: there are none. */
static const char *ops_of(const char *text)
{
    const char *group = strchr(text, ':');
    const char *ops = group != NULL ? strchr(group + 1, ':') : NULL;

    return ops != NULL ? ops + 1 : NULL;
}

static int read_ops(const char *text, bool ret[WIRE_OP_LIMIT], struct error *err)
{
    const char *ops = ops_of(text);

    if (ops != NULL)
        return ops_allow_parse(ops, ret, err) < 0 ? error_prefix(err, "--peer '%.100s'", text) : 0;
    for (size_t op = 0; op < WIRE_OP_LIMIT; op++)
        ret[op] = true;
    return 0;
}

/* "USER:GROUP" of it, in `room`; a text without OPS as it is. */
static const char *pair_of(const char *text, char room[PAIR_MAX])
{
    const char *ops = ops_of(text);

    if (ops == NULL || (size_t)(ops - text) > PAIR_MAX)
        return text;
    (void)snprintf(room, PAIR_MAX, "%.*s", (int)(ops - text - 1), text);
    return room;
}

int rights_parse(const struct flag_strings *texts, const char *folder, struct rights *ret,
                 struct error *err)
{
    char rooms[ARRAY_SIZE(texts->items)][PAIR_MAX];
    struct flag_strings pairs = { .len = texts->len };
    struct rights r = { .peers = { .n = 0 } };

    for (size_t i = 0; i < texts->len; i++)
        pairs.items[i] = pair_of(texts->items[i], rooms[i]);
    if (peers_parse(&pairs, folder, &r.peers, err) < 0)
        return -1;
    for (size_t i = 0; i < texts->len; i++) {
        if (read_ops(texts->items[i], r.may[i], err) < 0)
            return -1;
    }
    *ret = r;
    return 0;
}

bool rights_of(const struct rights *r, uid_t uid, gid_t gid, bool ret[WIRE_OP_LIMIT])
{
    bool any = false;

    memset(ret, 0, WIRE_OP_LIMIT * sizeof(*ret));
    for (size_t i = 0; i < r->peers.n; i++) {
        const struct peers one = { .items = { r->peers.items[i] }, .n = 1 };

        if (!peers_allow(&one, uid, gid))
            continue;
        any = true;
        for (size_t op = 0; op < WIRE_OP_LIMIT; op++)
            ret[op] |= r->may[i][op];
    }
    return any;
}
