/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl vault setup: what Coffer needs in Vault, shown as a difference, or made. */
#include "common/base.h"
#include "cofferctl/vault_plan.h"
#include "cofferctl/vault_roles.h"
#include "cofferctl/vault_secret_id.h"
#include "cofferctl/vault_target.h"
#include "cofferctl/verbs.h"

#define WRAP_TTL_MAX_S 86400u

static struct {
    bool apply, dry_run;
    const char *secret_id_file;
    uint64_t wrap_ttl;
} options;

static const struct flag flags[] = {
    VAULT_FLAGS,
    { "apply", NULL, FLAG_BOOL, &options.apply, "false", "make it so", NULL },
    { "dry-run", NULL, FLAG_BOOL, &options.dry_run, "false",
      "show what would be done; what happens without --apply", NULL },
    { "secret-id-file", NULL, FLAG_STRING, &options.secret_id_file, "",
      "approle: make a secret id of the one --role, into this new file of mode 0600", NULL },
    { "wrap-ttl", NULL, FLAG_UINT, &options.wrap_ttl, "0",
      "seconds: the file gets a wrapping token that gives the secret id once; 0: the secret id",
      NULL },
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.apply && options.dry_run)
        return error_set(err, ERR_INVALID, "--apply and --dry-run exclude each other");
    if (options.secret_id_file[0] != '\0' && vault_flags.roles.len != 1)
        return error_set(err, ERR_INVALID, "--secret-id-file wants exactly one --role");
    if (options.wrap_ttl > WRAP_TTL_MAX_S)
        return error_set(err, ERR_INVALID, "--wrap-ttl must be at most %u", WRAP_TTL_MAX_S);
    if (options.wrap_ttl > 0 && options.secret_id_file[0] == '\0')
        return error_set(err, ERR_INVALID, "--wrap-ttl goes with --secret-id-file");
    return 0;
}

/* ---- the page ---- */

struct page {
    json_t *rows; /* {"what", "state", "diff"} */
    size_t n[ITEM_CONFLICT + 1];
};

static const struct state {
    const char *name, *made;
    char sign;
} states[] = {
    [ITEM_SAME] = { "right", "right", '=' },
    [ITEM_MISSING] = { "missing", "made", '+' },
    [ITEM_DIFFERS] = { "differs", "changed", '~' },
    [ITEM_CONFLICT] = { "in the way", "in the way", '!' },
};

static void print_lines(FILE *to, const char *diff)
{
    while (*diff != '\0') {
        size_t len = strcspn(diff, "\n");
        AUTO_STRBUF struct strbuf line = STRBUF_INIT(VAULT_DIFF_MAX);
        AUTO_FREE char *one = strndup(diff, len);
        if (one != NULL)
            output_text(&line, one);
        (void)fprintf(to, "    %s\n", strbuf_text(&line));
        diff += len + (diff[len] == '\n');
    }
}

static void say(const struct cli *cli, struct page *page, const char *what,
                enum vault_item_state state, const char *diff)
{
    const struct state *s = &states[state];
    json_t *row = json_pack("{s:s, s:s, s:s}", "what", what, "state",
                            options.apply ? s->made : s->name, "diff", diff);

    page->n[state]++;
    (void)json_array_append_new(page->rows, row);
    if (cli->output == OUTPUT_JSON)
        return;
    (void)fprintf(cli->out, "%c %s\n", s->sign, what);
    print_lines(cli->out, diff);
}

/* ---- the work ---- */

static int do_item(const struct cli *cli, struct vault_server *server,
                   const struct vault_item *item, struct page *page, struct error *err)
{
    AUTO_STRBUF struct strbuf diff = STRBUF_INIT(VAULT_DIFF_MAX);
    AUTO_STRBUF struct strbuf name = STRBUF_INIT(VAULT_PATH_MAX + 32);
    enum vault_item_state state = ITEM_SAME;

    vault_item_name(item, &name);
    if (vault_item_look(server, item, &state, &diff, err) < 0)
        return error_prefix(err, "%s", strbuf_text(&name));
    if (options.apply && (state == ITEM_MISSING || state == ITEM_DIFFERS) &&
        vault_item_make(server, item, err) < 0)
        return error_prefix(err, "%s", strbuf_text(&name));
    if (state == ITEM_CONFLICT && item->by_hand != NULL)
        strbuf_addf(&diff, "%s\n", item->by_hand);
    say(cli, page, strbuf_text(&name), state, strbuf_text(&diff));
    return 0;
}

static int do_plan(const struct cli *cli, struct vault_server *server,
                   const struct vault_plan *plan, struct page *page, struct error *err)
{
    for (size_t i = 0; i < plan->n; i++) {
        if (do_item(cli, server, &plan->items[i], page, err) < 0)
            return -1;
    }
    return 0;
}

/* Settings of an engine of the wrong kind can't be compared. */
static int mounts_fit(const struct page *page, struct error *err)
{
    if (page->n[ITEM_CONFLICT] == 0)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "something else is mounted there: name another mount in the configuration");
}

static int do_all(const struct cli *cli, struct vault_target *t, struct page *page,
                  struct error *err)
{
    AUTO_VAULT_PLAN struct vault_plan *mounts = NULL, *rest = NULL;
    struct vault_server server = { .session = t->session };
    int r = -1;

    if (vault_server_read(&server, err) == 0 && vault_plan_mounts(&t->layout, &mounts, err) == 0 &&
        do_plan(cli, &server, mounts, page, err) == 0 && mounts_fit(page, err) == 0 &&
        vault_plan_rest(&t->layout, t->policies, vault_server_accessor(&server, t->layout.login),
                        &rest, err) == 0)
        r = do_plan(cli, &server, rest, page, err);
    vault_server_release(&server);
    return r;
}

/* ---- approle ---- */

static int say_role_ids(const struct cli *cli, const struct vault_target *t, struct page *page,
                        struct error *err)
{
    for (size_t i = 0; i < vault_n_roles; i++) {
        const char *role = vault_roles[i].name;
        char id[256], diff[300], what[300];

        if (!vault_role_wanted(&t->layout, &vault_roles[i]))
            continue;
        if (vault_role_id(t->session, &t->layout, role, id, err) < 0)
            return -1;
        (void)snprintf(what, sizeof(what), "role id of %s%s", t->layout.prefix, role);
        (void)snprintf(diff, sizeof(diff), "role_id: %s\n", id);
        if (id[0] == '\0')
            continue;
        say(cli, page, what, ITEM_SAME, diff);
        page->n[ITEM_SAME]--; /* nothing that can be made */
    }
    return 0;
}

static int make_secret_id(const struct cli *cli, const struct vault_target *t, struct page *page,
                          struct error *err)
{
    char what[4300];
    bool made = access(options.secret_id_file, F_OK) < 0;

    if (options.apply &&
        vault_secret_id_make(t->session, &t->layout, vault_flags.roles.items[0],
                             options.secret_id_file, (unsigned)options.wrap_ttl, &made, err) < 0)
        return -1;
    (void)snprintf(what, sizeof(what), "%s of %s%s in %.4000s",
                   options.wrap_ttl > 0 ? "wrapped secret id" : "secret id", t->layout.prefix,
                   vault_flags.roles.items[0], options.secret_id_file);
    say(cli, page, what, made ? ITEM_MISSING : ITEM_SAME, "");
    return 0;
}

static int do_approle(const struct cli *cli, const struct vault_target *t, struct page *page,
                      struct error *err)
{
    if (strcmp(t->layout.method, "approle") != 0)
        return 0;
    if (say_role_ids(cli, t, page, err) < 0)
        return -1;
    return options.secret_id_file[0] == '\0' ? 0 : make_secret_id(cli, t, page, err);
}

/* ---- the verb ---- */

static int check_method(const struct vault_target *t, struct error *err)
{
    if (options.secret_id_file[0] != '\0' && strcmp(t->layout.method, "approle") != 0)
        return error_set(err, ERR_INVALID, "--secret-id-file goes with login method approle only");
    if (strcmp(t->layout.method, "cert") == 0 && t->layout.client_ca_text == NULL)
        return error_set(err, ERR_INVALID,
                         "--client-ca is needed: whose certificates login method cert takes");
    return 0;
}

static int finish(const struct cli *cli, const struct page *page, struct error *err)
{
    size_t todo = page->n[ITEM_MISSING] + page->n[ITEM_DIFFERS];

    if (cli->output == OUTPUT_JSON &&
        output_list(cli->out, OUTPUT_JSON, page->rows, NULL, 0, err) < 0)
        return -1;
    if (options.apply)
        (void)fprintf(cli->notes, "cofferctl: %zu made, %zu changed, %zu were right\n",
                      page->n[ITEM_MISSING], page->n[ITEM_DIFFERS], page->n[ITEM_SAME]);
    else
        (void)fprintf(cli->notes, "cofferctl: %zu to make, %zu to change, %zu are right%s\n",
                      page->n[ITEM_MISSING], page->n[ITEM_DIFFERS], page->n[ITEM_SAME],
                      todo > 0 ? "; nothing was changed: --apply does it" : "");
    if (page->n[ITEM_CONFLICT] > 0)
        return error_set(err, ERR_PRECONDITION, "%zu can't be made by this command",
                         page->n[ITEM_CONFLICT]);
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_VAULT_TARGET struct vault_target *t = NULL;
    AUTO_JSON json_t *rows = json_array();
    struct page page = { .rows = rows };

    if (vault_target_open(cli, VAULT_AS_ADMINISTRATOR, &t, err) < 0 || check_method(t, err) < 0 ||
        do_all(cli, t, &page, err) < 0 || do_approle(cli, t, &page, err) < 0)
        return -1;
    return finish(cli, &page, err);
}

const struct verb vault_setup = {
    .group = "vault",
    .name = "setup",
    .help = "show what Coffer needs in Vault and what differs there; --apply makes it",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
