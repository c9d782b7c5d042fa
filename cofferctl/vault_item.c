/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/vault_item.h"

#include "cofferctl/textdiff.h"
#include "common/deadline.h"

#define SHOWN_MAX   80u
#define KV_READY_MS 60000u

/* Where each kind is read and written, and what we call it. */
static const struct kind {
    const char *name, *before, *after;
    const char *where; /* in front of the path */
} kinds[] = {
    [ITEM_ENGINE] = { "engine", "", "/", "sys/mounts/" },
    [ITEM_LOGIN] = { "login method", "auth/", "/", "sys/auth/" },
    [ITEM_POLICY] = { "policy", "", "", "sys/policies/acl/" },
    [ITEM_SETTINGS] = { "settings", "", "", "" },
    [ITEM_ROLE] = { "role", "", "", "" },
    [ITEM_SERVER_KEY] = { "server key", "", "", "" },
};

void vault_item_name(const struct vault_item *item, struct strbuf *ret)
{
    const struct kind *k = &kinds[item->kind];
    strbuf_addf(ret, "%s %s%s%s", k->name, k->before, item->path, k->after);
}

/* ---- what is mounted ---- */

static int read_table(struct vault_session *s, const char *path, json_t **ret, struct error *err)
{
    json_t *data = NULL;

    if (vault_session_read(s, path, &data, err) < 0)
        return -1;
    if (data == NULL)
        return error_set(err, ERR_UNAVAILABLE, "Vault doesn't show %s", path);
    json_decref(*ret);
    *ret = data;
    return 0;
}

int vault_server_read(struct vault_server *s, struct error *err)
{
    if (read_table(s->session, "sys/mounts", &s->engines, err) < 0 ||
        read_table(s->session, "sys/auth", &s->logins, err) < 0)
        return -1;
    return 0;
}

void vault_server_release(struct vault_server *s)
{
    json_decref(s->engines);
    json_decref(s->logins);
    s->engines = s->logins = NULL;
}

static json_t *mounted(const json_t *table, const char *path)
{
    char key[VAULT_PATH_MAX + 2];

    (void)snprintf(key, sizeof(key), "%s/", path);
    return json_object_get(table, key);
}

const char *vault_server_accessor(const struct vault_server *s, const char *login)
{
    const char *text = json_string_value(json_object_get(mounted(s->logins, login), "accessor"));

    return text == NULL ? "" : text;
}

static bool has_needed(const struct vault_server *s, const struct vault_item *item)
{
    if (item->needs[0] == '\0')
        return true;
    if (strncmp(item->needs, "auth/", 5) == 0)
        return mounted(s->logins, item->needs + 5) != NULL;
    return mounted(s->engines, item->needs) != NULL;
}

/* ---- values ---- */

/* A role's time to live is the administrator's, within reason. */
static const struct range {
    const char *field;
    json_int_t least, most;
} ranges[] = { { "token_ttl", 60, 86400 } };

static bool in_range(const char *field, const json_t *have)
{
    for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
        if (strcmp(ranges[i].field, field) == 0)
            return json_is_integer(have) && json_integer_value(have) >= ranges[i].least &&
                   json_integer_value(have) <= ranges[i].most;
    }
    return false;
}

static bool empty(const json_t *v)
{
    return v == NULL || json_is_null(v) || json_is_false(v) ||
           (json_is_string(v) && json_string_length(v) == 0) ||
           (json_is_integer(v) && json_integer_value(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

static bool holds(const json_t *list, const json_t *value)
{
    const json_t *item;
    size_t i;

    json_array_foreach (list, i, item) {
        if (json_equal(item, value))
            return true;
    }
    return false;
}

/* As sets: Vault sorts some of its lists. */
static bool same_list(const json_t *a, const json_t *b)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(b) || json_array_size(a) != json_array_size(b))
        return false;
    json_array_foreach (a, i, item) {
        if (!holds(b, item))
            return false;
    }
    return true;
}

static size_t trimmed(const char *text)
{
    size_t len = strlen(text);

    while (len > 0 && strchr(" \r\n\t", text[len - 1]) != NULL)
        len--;
    return len;
}

static bool same_text(const json_t *a, const json_t *b)
{
    const char *x = json_string_value(a), *y = json_string_value(b);

    return y != NULL && trimmed(x) == trimmed(y) && memcmp(x, y, trimmed(x)) == 0;
}

static bool same_value(const char *field, const json_t *wanted, const json_t *have)
{
    if (in_range(field, have) || (empty(wanted) && empty(have)))
        return true;
    if (json_is_array(wanted))
        return same_list(wanted, have);
    if (json_is_string(wanted))
        return same_text(wanted, have);
    return json_equal(wanted, have) == 1;
}

static void show(const json_t *value, struct strbuf *ret)
{
    char *text = value == NULL ? NULL : json_text(value, JSON_ENCODE_ANY | JSON_SORT_KEYS);
    size_t len = text == NULL ? 0 : strlen(text);

    if (text == NULL)
        strbuf_adds(ret, "(nothing)");
    else
        strbuf_addf(ret, "%.*s%s", (int)(len > SHOWN_MAX ? SHOWN_MAX : len), text,
                    len > SHOWN_MAX ? "..." : "");
    free(text);
}

static void differ(const char *field, const json_t *have, const json_t *wanted, struct strbuf *diff)
{
    strbuf_addf(diff, "-%s: ", field);
    show(have, diff);
    strbuf_addf(diff, "\n+%s: ", field);
    show(wanted, diff);
    strbuf_adds(diff, "\n");
}

/* ---- comparing ---- */

static enum vault_item_state compare_settings(const struct vault_item *item, const json_t *present,
                                              struct strbuf *diff)
{
    enum vault_item_state state = ITEM_SAME;
    const char *field;
    json_t *wanted;

    json_object_foreach (item->wanted, field, wanted) {
        const json_t *have = json_object_get(present, field);
        if (present != NULL && same_value(field, wanted, have))
            continue;
        if (present != NULL)
            differ(field, have, wanted, diff);
        else if (!empty(wanted)) {
            strbuf_addf(diff, "+%s: ", field);
            show(wanted, diff);
            strbuf_adds(diff, "\n");
        }
        state = ITEM_DIFFERS;
    }
    return present == NULL ? ITEM_MISSING : state;
}

static enum vault_item_state compare_mount(const struct vault_item *item, const json_t *present,
                                           struct strbuf *diff)
{
    const json_t *type = json_object_get(item->wanted, "type");
    const json_t *options = json_object_get(item->wanted, "options"), *value;
    const char *field;

    if (present == NULL)
        return ITEM_MISSING;
    if (!json_equal(type, json_object_get(present, "type"))) {
        differ("type", json_object_get(present, "type"), type, diff);
        return ITEM_CONFLICT;
    }
    json_object_foreach ((json_t *)(uintptr_t)options, field, value) {
        const json_t *have = json_object_get(json_object_get(present, "options"), field);
        if (!json_equal(value, have)) {
            differ(field, have, value, diff);
            return ITEM_CONFLICT;
        }
    }
    return ITEM_SAME;
}

static enum vault_item_state compare_policy(const struct vault_item *item, const json_t *present,
                                            struct strbuf *diff)
{
    const char *wanted = json_string_value(json_object_get(item->wanted, "policy"));
    const char *have = json_string_value(json_object_get(present, "policy"));

    if (present != NULL && have != NULL && strcmp(have, wanted) == 0)
        return ITEM_SAME;
    textdiff(have == NULL ? "" : have, wanted, diff);
    return present == NULL ? ITEM_MISSING : ITEM_DIFFERS;
}

/* What it is can't be changed, and it may have other versions and limits than a new one. */
static enum vault_item_state compare_server_key(const struct vault_item *item,
                                                const json_t *present, struct strbuf *diff)
{
    const char *type = json_string_value(json_object_get(present, "type")), *field;
    enum vault_item_state state = ITEM_SAME;
    const json_t *wanted;

    if (present == NULL)
        return ITEM_MISSING;
    json_object_foreach (item->wanted, field, wanted) {
        const json_t *have = json_object_get(present, field);
        bool same = strcmp(field, "type") == 0 ? type != NULL && strncmp(type, "rsa-", 4) == 0
                                               : same_value(field, wanted, have);
        if (same)
            continue;
        differ(field, have, wanted, diff);
        state = ITEM_CONFLICT;
    }
    return state;
}

enum vault_item_state vault_item_compare(const struct vault_item *item, const json_t *present,
                                         struct strbuf *diff)
{
    if (item->kind == ITEM_ENGINE || item->kind == ITEM_LOGIN)
        return compare_mount(item, present, diff);
    if (item->kind == ITEM_POLICY)
        return compare_policy(item, present, diff);
    if (item->kind == ITEM_SERVER_KEY)
        return compare_server_key(item, present, diff);
    if (item->by_hand != NULL && present == NULL)
        return ITEM_CONFLICT;
    return compare_settings(item, present, diff);
}

/* ---- the server ---- */

static int path_of(const struct vault_item *item, char ret[VAULT_PATH_MAX + 1], struct error *err)
{
    int n = snprintf(ret, VAULT_PATH_MAX + 1, "%s%s", kinds[item->kind].where, item->path);

    if (n < 0 || n > (int)VAULT_PATH_MAX)
        return error_set(err, ERR_INVALID, "a path in Vault is longer than %u bytes",
                         VAULT_PATH_MAX);
    return 0;
}

int vault_item_look(const struct vault_server *s, const struct vault_item *item,
                    enum vault_item_state *ret, struct strbuf *diff, struct error *err)
{
    AUTO_JSON json_t *present = NULL;
    char path[VAULT_PATH_MAX + 1];

    if (item->kind == ITEM_ENGINE)
        present = json_incref(mounted(s->engines, item->path));
    else if (item->kind == ITEM_LOGIN)
        present = json_incref(mounted(s->logins, item->path));
    else if (has_needed(s, item) && (path_of(item, path, err) < 0 ||
                                     vault_session_read(s->session, path, &present, err) < 0))
        return -1;
    *ret = vault_item_compare(item, present, diff);
    return 0;
}

/* A new KV mount of version 2 takes a moment before it answers. */
static int wait_for_kv(struct vault_server *s, const char *mount, struct error *err)
{
    uint64_t end = deadline_in(KV_READY_MS);
    char path[VAULT_PATH_MAX + 8];

    (void)snprintf(path, sizeof(path), "%s/config", mount);
    for (;;) {
        AUTO_JSON json_t *data = NULL;
        struct error problem = ERROR_INIT;
        if (vault_session_read(s->session, path, &data, &problem) == 0)
            return 0;
        if (deadline_left(end) == 0)
            return error_pass(err, &problem);
        sleep_ms(100);
    }
}

int vault_item_make(struct vault_server *s, const struct vault_item *item, struct error *err)
{
    char path[VAULT_PATH_MAX + 1];
    const char *type = json_string_value(json_object_get(item->wanted, "type"));
    bool mount = item->kind == ITEM_ENGINE || item->kind == ITEM_LOGIN;

    if (path_of(item, path, err) < 0 ||
        vault_session_write(s->session, path, item->wanted, err) < 0)
        return -1;
    if (mount && vault_server_read(s, err) < 0)
        return -1;
    if (item->kind == ITEM_ENGINE && type != NULL && strcmp(type, "kv") == 0)
        return wait_for_kv(s, item->path, err);
    return 0;
}
