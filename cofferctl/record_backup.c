/* SPDX-License-Identifier: Apache-2.0 */
/* cofferctl record backup: a volume's record, byte for byte, into a file of its own. */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "common/fs.h"
#include "volume/restore.h"

static struct {
    const char *to;
} options;

static const struct flag flags[] = {
    { "to", NULL, FLAG_STRING, &options.to, "", "the file to write; must not be there yet", NULL },
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.to[0] == '\0')
        return error_set(err, ERR_INVALID, "--to is needed: the file to write");
    return 0;
}

/* A copy of what nobody can read would only look like a backup. */
static int check_readable(const struct cli *cli, const struct strbuf *text,
                          struct restore_there *ret, struct error *err)
{
    if (restore_read(strbuf_text(text), text->len, cli->operand, ret, err) < 0)
        return -1;
    if (ret->found == RESTORE_RECORD)
        return 0;
    return error_set(err, ERR_DATA_LOSS,
                     "nothing was written: the record of volume '%s' is bad: %s", cli->operand,
                     ret->problem);
}

static void print_notes(const struct cli *cli, const struct restore_there *there,
                        const struct volume_where *where)
{
    (void)fprintf(cli->notes,
                  "cofferctl: the record of volume '%s' (state '%s', generation %llu) was written "
                  "to '%s'\n",
                  cli->operand, record_state_name(there->record.state),
                  (unsigned long long)there->record.gen, options.to);
    if (there->record.state != RECORD_READY)
        (void)fprintf(cli->notes, "cofferctl: a record is restored only when it says 'ready': make "
                                  "another backup when the volume has been used\n");
    else if (where->has_data)
        (void)fprintf(cli->notes,
                      "cofferctl: the LUKS header is not in it; to keep that too: cryptsetup "
                      "luksHeaderBackup --header-backup-file FILE '%s'\n",
                      where->data);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    AUTO_POOL_SET struct pool_set *set = NULL;
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(65536);
    struct restore_there there = { .found = RESTORE_NOTHING };
    struct volume_where where;
    struct pool *pool = NULL;
    struct volume_id id;
    if (volume_id_parse(cli->operand, &id, err) < 0 || config_load(cli->config, &config, err) < 0 ||
        pool_set_open(config, &set, err) < 0 || pool_set_for_id(set, &id, &pool, err) < 0 ||
        pool->ops->peek_text(pool, &id, &text, err) < 0 ||
        check_readable(cli, &text, &there, err) < 0 ||
        pool->ops->locate(pool, &id, &where, err) < 0 ||
        fs_write_new(options.to, strbuf_text(&text), text.len, 0600, err) < 0)
        return -1;
    print_notes(cli, &there, &where);
    return 0;
}

const struct verb record_backup = {
    .group = "record",
    .name = "backup",
    .operand = "ID",
    .help = "write a volume's record to a file; it holds the wrapped key, but no data and no LUKS "
            "header",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
