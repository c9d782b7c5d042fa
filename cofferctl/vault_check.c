/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vault check: is Vault there, and as Coffer needs it? Changes nothing. */
#include "common/base.h"
#include "cofferctl/vault_check.h"
#include "cofferctl/vault_plan.h"
#include "cofferctl/verbs.h"

#define SETUP "cofferctl vault setup shows the difference, with --apply it mends it"

static const struct flag flags[] = { VAULT_FLAGS };

/* ---- what setup makes ---- */

static const char *const titles[] = {
    [ITEM_ENGINE] = "engine",     [ITEM_LOGIN] = "login method", [ITEM_POLICY] = "policy",
    [ITEM_SETTINGS] = "settings", [ITEM_ROLE] = "role",          [ITEM_SERVER_KEY] = "server key",
};

/* The first line of a difference that says something: no comment, not empty. */
static const char *telling(const char *diff)
{
    const char *line = diff;

    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        if (len > 1 && line[1] != '#' && line[1] != '}')
            return line;
        line += len + (line[len] == '\n');
    }
    return diff;
}

static void say_difference(struct findings *f, const struct vault_item *item, const char *diff)
{
    const char *line = telling(diff);
    size_t lines = 0, len = strcspn(line, "\n");

    for (const char *p = diff; *p != '\0'; p++)
        lines += *p == '\n';
    findings_say(f, FOUND_FAIL, SETUP,
                 "%s is not as it must be: %zu lines differ (- is there, + must be), such as: %.*s",
                 item->path, lines, (int)(len > 200 ? 200 : len), line);
}

/* "-type: "kv"" and what follows, on one line. */
static void say_conflict(struct findings *f, const struct vault_item *item, char *diff)
{
    for (char *p = diff; *p != '\0'; p++) {
        if (*p == '\n')
            *p = p[1] == '\0' ? '\0' : ' ';
    }
    if (item->kind == ITEM_SERVER_KEY)
        findings_say(f, FOUND_FAIL, item->by_hand,
                     "%s is not as it must be (- is there, + must be): %.300s", item->path, diff);
    else if (item->by_hand != NULL)
        findings_say(f, FOUND_FAIL, item->by_hand, "%s has no settings yet", item->path);
    else
        findings_say(f, FOUND_FAIL, "name another mount in the configuration, or unmount that one",
                     "something else is at %s/ (- is there, + must be): %.300s", item->path, diff);
}

static void check_item(const struct vault_server *server, const struct vault_item *item,
                       struct findings *f)
{
    AUTO_STRBUF struct strbuf diff = STRBUF_INIT(VAULT_DIFF_MAX);
    AUTO_FREE char *text = NULL;
    enum vault_item_state state = ITEM_SAME;
    struct error err = ERROR_INIT;

    f->check = titles[item->kind];
    if (vault_item_look(server, item, &state, &diff, &err) < 0) {
        findings_say(f, FOUND_WARN, "ask with an administrator's token", "%s can't be seen: %s",
                     item->path, err.msg);
        return;
    }
    text = strdup(strbuf_text(&diff));
    if (state == ITEM_SAME)
        findings_say(f, FOUND_OK, "", "%s is as it must be", item->path);
    else if (state == ITEM_MISSING)
        findings_say(f, FOUND_FAIL, SETUP, "%s is not there", item->path);
    else if (state == ITEM_CONFLICT && text != NULL)
        say_conflict(f, item, text);
    else
        say_difference(f, item, strbuf_text(&diff));
}

static void check_plan(const struct vault_server *server, const struct vault_plan *plan,
                       struct findings *f)
{
    for (size_t i = 0; i < plan->n; i++)
        check_item(server, &plan->items[i], f);
}

static int check_layout(const struct vault_target *t, struct findings *f, struct error *err)
{
    AUTO_VAULT_PLAN struct vault_plan *mounts = NULL, *rest = NULL;
    struct vault_server server = { .session = t->session };
    struct error problem = ERROR_INIT;
    int r = -1;

    if (vault_server_read(&server, &problem) < 0) {
        f->check = "engine";
        findings_say(f, FOUND_WARN, "ask with an administrator's token",
                     "what is mounted can't be seen: %s", problem.msg);
        vault_server_release(&server);
        return 0;
    }
    if (vault_plan_mounts(&t->layout, &mounts, err) == 0 &&
        vault_plan_rest(&t->layout, t->policies, vault_server_accessor(&server, t->layout.login),
                        &rest, err) == 0) {
        check_plan(&server, mounts, f);
        check_plan(&server, rest, f);
        r = 0;
    }
    vault_server_release(&server);
    return r;
}

/* ---- the verb ---- */

static int look(const struct vault_target *t, struct findings *f, struct error *err)
{
    if (!vault_check_server(t, f) || !vault_check_token(t, f))
        return 0;
    if (!t->login.administrator) {
        vault_check_login(t, f);
        return 0;
    }
    if (check_layout(t, f, err) < 0)
        return -1;
    vault_check_keys(t, f);
    vault_check_audit(t, f);
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_VAULT_TARGET struct vault_target *t = NULL;
    AUTO_JSON json_t *rows = json_array();
    struct findings f = { .rows = rows };

    if (vault_target_open(cli, VAULT_AS_ANYBODY, &t, err) < 0 || look(t, &f, err) < 0 ||
        findings_print(cli->out, cli->output, rows, err) < 0)
        return -1;
    return findings_judge(rows, err);
}

const struct verb vault_check = {
    .group = "vault",
    .name = "check",
    .help = "check that Vault is there and as Coffer needs it, and say what to do; exit code 0 "
            "when nothing failed",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};
