/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "common/peers.h"

#include "common/parse.h"
#include "common/strbuf.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>

/* ---- names ---- */

static FILE *open_list(const char *folder, const char *name, struct error *err)
{
    char path[512];
    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path)) {
        (void)error_set(err, ERR_INVALID, "the folder of '%s' has too long a name", name);
        return NULL;
    }
    FILE *f = fopen(path, "re");
    if (f == NULL)
        (void)error_errno(err, errno, "open '%s'", path);
    return f;
}

static int user_id(const char *folder, const char *name, uint32_t *ret, struct error *err)
{
    const struct passwd *e;
    FILE *f = open_list(folder, "passwd", err);
    if (f == NULL)
        return -1;
    while ((e = fgetpwent(f)) != NULL && strcmp(e->pw_name, name) != 0)
        continue;
    if (e != NULL)
        *ret = e->pw_uid;
    (void)fclose(f);
    return e != NULL ? 0 : error_set(err, ERR_INVALID, "there is no user '%.100s'", name);
}

static int group_id(const char *folder, const char *name, uint32_t *ret, struct error *err)
{
    const struct group *e;
    FILE *f = open_list(folder, "group", err);
    if (f == NULL)
        return -1;
    while ((e = fgetgrent(f)) != NULL && strcmp(e->gr_name, name) != 0)
        continue;
    if (e != NULL)
        *ret = e->gr_gid;
    (void)fclose(f);
    return e != NULL ? 0 : error_set(err, ERR_INVALID, "there is no group '%.100s'", name);
}

/* ---- pairs ---- */

typedef int id_fn(const char *folder, const char *name, uint32_t *ret, struct error *err);

/* A name begins with a letter or '_'; anything else must be a number. The highest id is -1, which
 * means "none" to the kernel. */
static int parse_id(const char *folder, const char *text, id_fn *by_name, uint32_t *ret,
                    struct error *err)
{
    bool name =
        (text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z') || text[0] == '_';
    uint64_t v;
    if (name)
        return by_name(folder, text, ret, err);
    if (parse_u64(text, &v) < 0 || v >= UINT32_MAX)
        return error_set(err, ERR_INVALID, "'%.100s' is neither a number nor a name", text);
    *ret = (uint32_t)v;
    return 0;
}

static int peer_parse(const char *folder, const char *text, struct peer *ret, struct error *err)
{
    char user[128];
    uint32_t u = 0, g = 0;
    const char *colon = strchr(text, ':');
    if (str_copy(user, sizeof(user), text) < 0 || colon == NULL)
        return error_set(err, ERR_INVALID, "not USER:GROUP, by number or name");
    user[colon - text] = '\0';
    if (parse_id(folder, user, user_id, &u, err) < 0 ||
        parse_id(folder, colon + 1, group_id, &g, err) < 0)
        return -1;
    *ret = (struct peer){ .uid = u, .gid = g };
    return 0;
}

int peers_parse(const struct flag_strings *texts, const char *folder, struct peers *ret,
                struct error *err)
{
    struct peers p = { .n = 0 };
    if (texts->len == 0)
        return error_set(err, ERR_INVALID, "--peer is needed: the USER:GROUP that may connect");
    if (texts->len > ARRAY_SIZE(p.items))
        return error_set(err, ERR_INVALID, "--peer may be given at most %zu times",
                         ARRAY_SIZE(p.items));
    for (size_t i = 0; i < texts->len; i++) {
        if (peer_parse(folder, texts->items[i], &p.items[i], err) < 0)
            return error_prefix(err, "--peer '%.100s'", texts->items[i]);
        p.n++;
    }
    *ret = p;
    return 0;
}

int peers_group_parse(const char *text, const char *folder, gid_t *ret, struct error *err)
{
    uint32_t g = 0;
    if (parse_id(folder, text, group_id, &g, err) < 0)
        return -1;
    *ret = g;
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
