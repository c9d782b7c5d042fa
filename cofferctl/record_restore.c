/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl record restore: brings a volume's record back from a backup. What may be written is
 * volume/restore.h's decision, made twice: to show what would happen, and again under the volume's
 * lock. What was there before is kept in a file.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "cofferctl/confirm.h"
#include "common/blockdev.h"
#include "common/fs.h"
#include "common/log.h"
#include "volume/restore.h"

#include <fcntl.h>
#include <syslog.h>
#include <unistd.h>

#define TEXT_MAX 65536u

static struct {
    const char *from, *replaced;
    bool yes;
} options;

static const struct flag flags[] = {
    { "from", NULL, FLAG_STRING, &options.from, "", "the backup to read", NULL },
    { "replaced", NULL, FLAG_STRING, &options.replaced, "",
      "where to keep what was there before; default: the backup's name and .replaced", NULL },
    { "yes", NULL, FLAG_BOOL, &options.yes, "false", "don't ask on the terminal", NULL },
};

struct restore { /* one run */
    const struct cli *cli;
    struct volume_id id;
    struct pool *pool;
    struct record backup, plan;
    struct restore_there there;
    struct strbuf text; /* what is there, as it is */
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.from[0] == '\0')
        return error_set(err, ERR_INVALID, "--from is needed: the backup to read");
    return 0;
}

/* ---- what the backup says, and what is there ---- */

static int read_backup(struct restore *r, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(RECORD_MAX);
    const struct record_claim claim = { .id = r->cli->operand };
    if (fs_read_at(AT_FDCWD, options.from, RECORD_MAX, &text, err) < 0)
        return -1;
    if (record_decode(strbuf_text(&text), text.len, &r->backup, err) < 0 ||
        record_matches(&r->backup, &claim, err) < 0)
        return error_prefix(err, "the backup '%s' is no backup of volume '%s'", options.from,
                            r->cli->operand);
    return 0;
}

static int read_there(struct restore *r, struct error *err)
{
    struct error local = ERROR_INIT;
    strbuf_clear(&r->text);
    if (r->pool->ops->peek_text(r->pool, &r->id, &r->text, &local) == 0)
        return restore_read(strbuf_text(&r->text), r->text.len, r->cli->operand, &r->there, err);
    return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
}

static int look_for_mapping(struct restore *r, struct error *err)
{
    char dm_name[DM_NAME_LEN + 1];
    struct error local = ERROR_INIT;
    struct dm_device d;
    volume_id_dm_name(&r->id, dm_name);
    if (dm_device_find(dm_name, &d, &local) == 0)
        return str_copy(r->there.dm_uuid, sizeof(r->there.dm_uuid), d.uuid);
    return local.code == ERR_NOT_FOUND ? 0 : error_pass(err, &local);
}

static int make_plan(struct restore *r, struct error *err)
{
    struct volume_where where;
    r->there = (struct restore_there){ .found = RESTORE_NOTHING };
    if (read_there(r, err) < 0 || look_for_mapping(r, err) < 0 ||
        r->pool->ops->locate(r->pool, &r->id, &where, err) < 0)
        return -1;
    r->there.has_image = where.has_data;
    r->there.image_bytes = where.size;
    if (restore_plan(&r->there, &r->backup, &r->plan, err) < 0)
        return error_prefix(err, "volume '%s' is left as it is", r->cli->operand);
    return 0;
}

/* ---- asking ---- */

static void describe(const struct restore *r, struct strbuf *sb)
{
    char fields[200] = "";
    switch (r->there.found) {
    case RESTORE_NOTHING:
        strbuf_adds(sb, "There is no record now.");
        break;
    case RESTORE_UNREADABLE:
        strbuf_adds(sb, "The record there is unreadable: ");
        output_text(sb, r->there.problem);
        break;
    case RESTORE_RECORD:
        restore_difference(&r->there.record, &r->plan, fields, sizeof(fields));
        strbuf_addf(sb, "The record there differs in: %s", fields);
        break;
    }
}

static int ask(const struct restore *r, struct error *err)
{
    AUTO_STRBUF struct strbuf question = STRBUF_INIT(16384);
    if (options.yes)
        return 0;
    strbuf_addf(&question, "This restores the record of volume %s (", r->cli->operand);
    output_text(&question, r->backup.name);
    strbuf_addf(&question, ", created %s) from '", r->backup.created);
    output_text(&question, options.from);
    strbuf_adds(&question, "'.\n");
    describe(r, &question);
    strbuf_adds(&question, "\nType yes to go on: ");
    if (strbuf_check(&question, "the question", err) < 0)
        return -1;
    return confirm(strbuf_text(&question), "yes", "nothing was written", err);
}

/* ---- doing it ---- */

static bool same_content(const char *path, const struct strbuf *text)
{
    AUTO_STRBUF struct strbuf there = STRBUF_INIT(TEXT_MAX);
    return fs_read_at(AT_FDCWD, path, TEXT_MAX, &there, NULL) == 0 && there.len == text->len &&
           memcmp(strbuf_text(&there), strbuf_text(text), text->len) == 0;
}

/* A run that was killed behind this line has kept it already. */
static int keep_old(const struct restore *r, struct error *err)
{
    AUTO_STRBUF struct strbuf path = STRBUF_INIT(4096);
    struct error local = ERROR_INIT;
    if (r->there.found == RESTORE_NOTHING)
        return 0;
    strbuf_addf(&path, "%s%s", options.replaced[0] != '\0' ? options.replaced : options.from,
                options.replaced[0] != '\0' ? "" : ".replaced");
    if (strbuf_check(&path, "--replaced", err) < 0)
        return -1;
    if (fs_write_new(strbuf_text(&path), strbuf_text(&r->text), r->text.len, 0600, &local) < 0 &&
        !(local.code == ERR_EXISTS && same_content(strbuf_text(&path), &r->text))) {
        (void)error_pass(err, &local);
        return error_prefix(err, "nothing was restored, because what is there can't be kept "
                                 "(--replaced names another file)");
    }
    (void)fprintf(r->cli->notes, "cofferctl: what was there before is in '%s'\n",
                  strbuf_text(&path));
    return 0;
}

static bool nothing_to_do(const struct restore *r)
{
    char fields[200];
    if (r->there.found != RESTORE_RECORD)
        return false;
    restore_difference(&r->there.record, &r->plan, fields, sizeof(fields));
    return fields[0] == '\0';
}

static int write_locked(struct restore *r, bool *ret_changed, struct error *err)
{
    AUTO_VOLUME struct volume v = VOLUME_INIT;
    if (volume_open(r->pool, &r->id, false, &v, err) < 0 || make_plan(r, err) < 0)
        return -1;
    *ret_changed = !nothing_to_do(r);
    if (!*ret_changed)
        return 0;
    if (keep_old(r, err) < 0)
        return -1;
    return r->pool->ops->replace_record(&v, &r->plan, err);
}

/* One line on stderr, and the same for the host's own log. */
static void audit(const struct restore *r, const struct error *err)
{
    log_audit(KV("action", "restore-record"), KV("volume_id", r->cli->operand),
              KV("tenant", r->backup.tenant), KV("gen", r->plan.gen), KV("from", options.from),
              KV("uid", getuid()), KV("result", error_code_name(err->code)));
    openlog("cofferctl", LOG_PID, LOG_AUTHPRIV);
    syslog(LOG_NOTICE, "audit: action=restore-record volume_id=%s gen=%llu uid=%u result=%s",
           r->cli->operand, (unsigned long long)r->plan.gen, (unsigned)getuid(),
           error_code_name(err->code));
}

static int restore(struct restore *r, struct error *err)
{
    struct error own = ERROR_INIT;
    bool changed = false;
    if (make_plan(r, err) < 0 || (!nothing_to_do(r) && ask(r, err) < 0))
        return -1;
    int result = write_locked(r, &changed, &own);
    if (result < 0 || changed)
        audit(r, &own);
    if (result < 0)
        return error_pass(err, &own);
    (void)fprintf(r->cli->notes,
                  changed ? "cofferctl: the record of volume '%s' is restored, at generation %llu\n"
                          : "cofferctl: the record of volume '%s' says all of it already, at "
                            "generation %llu: nothing was written\n",
                  r->cli->operand,
                  (unsigned long long)(changed ? r->plan.gen : r->there.record.gen));
    return 0;
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    AUTO_POOL_SET struct pool_set *set = NULL;
    struct restore r = { .cli = cli, .text = STRBUF_INIT(TEXT_MAX) };
    int result = -1;
    if (volume_id_parse(cli->operand, &r.id, err) == 0 && read_backup(&r, err) == 0 &&
        config_load(cli->config, &config, err) == 0 && pool_set_open(config, &set, err) == 0 &&
        pool_set_for_id(set, &r.id, &r.pool, err) == 0)
        result = restore(&r, err);
    strbuf_release(&r.text);
    return result;
}

const struct verb record_restore = {
    .group = "record",
    .name = "restore",
    .operand = "ID",
    .help = "bring a volume's record back from a backup; its image must be there",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
