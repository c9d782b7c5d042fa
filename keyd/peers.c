/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "keyd/peers.h"

#include "common/parse.h"
#include "common/strbuf.h"

/* The highest id is -1, which means "none" to the kernel. */
static int parse_id(const char *text, uint32_t *ret)
{
    uint64_t v;
    if (parse_u64(text, &v) < 0 || v >= UINT32_MAX)
        return -1;
    *ret = (uint32_t)v;
    return 0;
}

static int peer_parse(const char *text, struct peer *ret)
{
    char uid[24];
    uint32_t u, g;
    const char *colon = strchr(text, ':');
    if (str_copy(uid, sizeof(uid), text) < 0 || colon == NULL)
        return -1;
    uid[colon - text] = '\0';
    if (parse_id(uid, &u) < 0 || parse_id(colon + 1, &g) < 0)
        return -1;
    *ret = (struct peer){ .uid = u, .gid = g };
    return 0;
}

int peers_parse(const struct flag_strings *texts, struct peers *ret, struct error *err)
{
    struct peers p = { .n = 0 };
    if (texts->len == 0)
        return error_set(err, ERR_INVALID, "--peer is needed: the UID:GID that may connect");
    if (texts->len > ARRAY_SIZE(p.items))
        return error_set(err, ERR_INVALID, "--peer may be given at most %zu times",
                         ARRAY_SIZE(p.items));
    for (size_t i = 0; i < texts->len; i++) {
        if (peer_parse(texts->items[i], &p.items[i]) < 0)
            return error_set(err, ERR_INVALID, "--peer '%s' is not UID:GID in decimal",
                             texts->items[i]);
        p.n++;
    }
    *ret = p;
    return 0;
}

bool peers_allow(const struct peers *p, uid_t uid, gid_t gid)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].uid == uid && p->items[i].gid == gid)
            return true;
    }
    return false;
}
