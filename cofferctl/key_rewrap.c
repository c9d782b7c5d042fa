/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl key rewrap: records moved to the newest version of their tenants' keys. What is to do
 * follows from the records alone, so a run that was killed is gone on with by running it again.
 */
#include "common/base.h"
#include "cofferctl/key_rewrap.h"
#include "cofferctl/key_scan.h"
#include "cofferctl/verbs.h"

#include "common/deadline.h"

#include <unistd.h>

#define RATE_MAX    1000u
#define PAUSE_MS    1000u /* before busy volumes are tried again */
#define PROGRESS_MS 200u

static struct {
    uint64_t rate, wait;
    bool progress;
} options;

static const struct flag flags[] = {
    KEY_TENANT_FLAGS,
    { "volume", NULL, FLAG_STRING, &key_flags.volume, "", "that volume alone, by id", NULL },
    { "rate", NULL, FLAG_UINT, &options.rate, "50", "volumes per second at most; 0: no limit",
      NULL },
    { "wait", NULL, FLAG_UINT, &options.wait, "60",
      "seconds for which volumes that are busy are tried again", NULL },
    { "progress", NULL, FLAG_BOOL, &options.progress, "false",
      "show progress on standard error, also when that is no terminal", NULL },
    KEY_VAULT_FLAGS,
};

static int check(const struct cli *cli UNUSED, struct error *err)
{
    if (options.rate > RATE_MAX)
        return error_set(err, ERR_INVALID, "--rate must be at most %u", RATE_MAX);
    if (options.wait > 86400)
        return error_set(err, ERR_INVALID, "--wait must be at most 86400");
    return key_flags_check(true, err);
}

struct run {
    const struct cli *cli;
    struct key_target *t;
    struct key_ring ring;
    uint64_t *newest;            /* of each key of the ring; 0: not asked for, or not known */
    struct rewrap_volume *items; /* still to do */
    size_t n, all;
    size_t counts[REWRAP_OUTCOMES];
    size_t untried; /* the run ended before them */
    size_t left;    /* under an old version, when all is done */
    uint64_t next_at, shown_at;
};

static void release(struct run *r)
{
    key_ring_release(&r->ring);
    free(r->newest);
    free(r->items);
}

/* ---- what is to do ---- */

static bool is_chosen(const struct run *r, const struct record *record)
{
    const struct kms_config *kms = config_kms(r->t->config, record->kms);

    if (kms == NULL || kms->kind != KMS_VAULT_TRANSIT || !key_kms_chosen(kms) ||
        record_is_client(record))
        return false;
    if (key_flags.volume[0] != '\0')
        return strcmp(record->id, key_flags.volume) == 0;
    return key_flags.all || strcmp(record->tenant, key_flags.tenant) == 0;
}

static int plan(void *ctx, struct pool *pool, const struct volume_id *id,
                const struct record *record, struct error *err)
{
    struct run *r = ctx;

    if (record->state == RECORD_ERASED || !is_chosen(r, record))
        return 0;
    if ((r->n & (r->n + 1)) == 0 || r->items == NULL) { /* room for the next power of two */
        size_t room = 2 * (r->n + 1);
        struct rewrap_volume *more = reallocarray(r->items, room, sizeof(*more));
        if (more == NULL)
            return error_memory(err);
        r->items = more;
    }
    r->items[r->n++] = (struct rewrap_volume){ .pool = pool, .id = *id };
    return 0;
}

/* A volume that is asked for by name must be there, and of a kind that has versions. */
static int check_volume(const struct run *r, struct error *err)
{
    struct volume_id id;
    struct pool *pool;
    struct record record;

    if (key_flags.volume[0] == '\0')
        return 0;
    if (volume_id_parse(key_flags.volume, &id, err) < 0 ||
        pool_set_for_id(r->t->pools, &id, &pool, err) < 0 ||
        pool->ops->peek_record(pool, &id, &record, err) < 0)
        return -1;
    if (is_chosen(r, &record))
        return 0;
    if (record_is_client(&record))
        return error_set(err, ERR_PRECONDITION,
                         "volume '%s' has a key that its user's device made (keySource client): "
                         "such keys have no versions in Vault",
                         key_flags.volume);
    return error_set(err, ERR_PRECONDITION,
                     "volume '%s' has its key at '%s', which is no transit key service that was "
                     "chosen: such keys have no versions",
                     key_flags.volume, record.kms);
}

/* Of the keys that chosen volumes use. One that Vault doesn't have costs its volumes only. */
static int ask_newest(struct run *r, struct error *err)
{
    r->newest = calloc(r->ring.n + 1, sizeof(*r->newest));
    if (r->newest == NULL)
        return error_memory(err);
    for (size_t i = 0; i < r->ring.n; i++) {
        AUTO_JSON json_t *data = NULL;
        struct error problem = ERROR_INIT;
        struct transit_key key;

        if (!key_is_chosen(&r->ring.keys[i]))
            continue;
        if (key_vault_read(r->t, &r->ring.keys[i], &key, &data, &problem) == 0)
            r->newest[i] = key.latest;
        else if (problem.code == ERR_NOT_FOUND)
            (void)fprintf(r->cli->notes, "cofferctl: key '%s': %s\n", r->ring.keys[i].name,
                          problem.msg);
        else
            return error_pass(err, &problem);
    }
    return 0;
}

static int prepare(struct run *r, struct error *err)
{
    AUTO_JSON json_t *same = json_array(); /* what the first look couldn't read */

    if (check_volume(r, err) < 0 || key_ring_read(&r->ring, r->t->config, r->t->pools, err) < 0 ||
        ask_newest(r, err) < 0 || key_scan(r->t->pools, same, plan, r, err) < 0)
        return -1;
    r->all = r->n;
    return 0;
}

/* ---- the work ---- */

static void show_progress(struct run *r, bool last)
{
    bool terminal = isatty(fileno(r->cli->notes)) == 1;
    size_t done = r->all - r->n;

    if ((!terminal && !options.progress) || (!last && clock_ms() < r->shown_at))
        return;
    r->shown_at = clock_ms() + (terminal ? PROGRESS_MS : 10 * PROGRESS_MS);
    (void)fprintf(r->cli->notes, "%s%zu of %zu volumes, %zu rewrapped, %zu failed%s",
                  terminal ? "\r" : "cofferctl: ", done, r->all, r->counts[REWRAPPED],
                  r->counts[REWRAP_FAILED], terminal && !last ? "" : "\n");
    (void)fflush(r->cli->notes);
}

/* Before a request that Vault will get. */
static int throttle(struct run *r, struct error *err)
{
    uint64_t now = clock_ms();

    if (options.rate == 0)
        return 0;
    if (r->next_at > now && vault_session_pause(r->t->login.session, r->next_at - now, err) < 0)
        return -1;
    r->next_at = (r->next_at > now ? r->next_at : now) + 1000 / options.rate;
    return 0;
}

/* The key of a volume of the plan; a volume that is of another one now was made anew: later. */
static const struct ring_key *key_of(const struct run *r, const struct record *record,
                                     uint64_t *ret_newest)
{
    const struct kms_config *kms = config_kms(r->t->config, record->kms);
    char name[KMS_KEY_NAME_SIZE];

    if (kms == NULL || kms->kind != KMS_VAULT_TRANSIT)
        return NULL;
    kms_key_name(kms->vault, record->tenant, name);
    for (size_t i = 0; i < r->ring.n; i++) {
        const struct ring_key *k = &r->ring.keys[i];
        if (strcmp(k->name, name) == 0 && strcmp(k->kms->vault->mount, kms->vault->mount) == 0) {
            *ret_newest = r->newest[i];
            return r->newest[i] == 0 ? NULL : k;
        }
    }
    return NULL;
}

static void say_failed(const struct run *r, const struct rewrap_volume *v, const char *problem)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(4096);
    char id[VOLUME_ID_MAX + 1];

    volume_id_format(&v->id, id);
    output_text(&text, problem);
    (void)fprintf(r->cli->notes, "%scofferctl: volume '%s': %s\n",
                  isatty(fileno(r->cli->notes)) == 1 ? "\r" : "", id, strbuf_text(&text));
}

/* Its record is read twice: here for its key, and by rewrap_one for what is done. */
static int do_one(struct run *r, const struct rewrap_volume *v, enum rewrapped *ret,
                  struct error *err)
{
    struct error problem = ERROR_INIT;
    uint64_t newest = 0;
    struct record record;

    if (v->pool->ops->peek_record(v->pool, &v->id, &record, &problem) < 0) {
        *ret = problem.code == ERR_NOT_FOUND ? REWRAP_GONE : REWRAP_FAILED;
    } else {
        const struct ring_key *k = key_of(r, &record, &newest);
        if (k == NULL) {
            *ret = REWRAP_FAILED;
            (void)error_set(&problem, ERR_PRECONDITION, "Vault doesn't have its key");
        } else if ((record.key.version < newest && throttle(r, err) < 0) ||
                   rewrap_one(r->t, k, newest, v, ret, &problem) < 0) {
            return problem.code == ERR_OK ? -1 : error_pass(err, &problem);
        }
    }
    if (*ret == REWRAP_FAILED)
        say_failed(r, v, problem.msg);
    return 0;
}

/* All that are to do, once; the busy ones stay. */
static int pass(struct run *r, struct error *err)
{
    size_t busy = 0, total = r->n;

    for (size_t i = 0; i < total; i++) {
        enum rewrapped outcome = REWRAP_FAILED;

        if (do_one(r, &r->items[i], &outcome, err) < 0)
            return -1;
        if (outcome == REWRAP_BUSY)
            r->items[busy++] = r->items[i];
        else
            r->counts[outcome]++;
        r->n = busy + (total - i - 1);
        show_progress(r, false);
    }
    return 0;
}

static int work(struct run *r, struct error *err)
{
    uint64_t until;

    if (pass(r, err) < 0)
        return -1;
    until = deadline_in(options.wait * 1000);
    while (r->n > 0 && deadline_left(until) > 0) {
        if (vault_session_pause(r->t->login.session, PAUSE_MS, err) < 0 || pass(r, err) < 0)
            return -1;
    }
    r->counts[REWRAP_BUSY] = r->n;
    return 0;
}

/* ---- what is left ---- */

static int count_left(struct run *r, struct error *err)
{
    AUTO_KEY_RING struct key_ring now = { .keys = NULL };

    if (key_ring_init(&now, err) < 0 || key_ring_read(&now, r->t->config, r->t->pools, err) < 0)
        return -1;
    r->left = 0;
    for (size_t i = 0; i < r->ring.n; i++) {
        struct ring_key *k;
        if (!key_is_chosen(&r->ring.keys[i]) || r->newest[i] == 0)
            continue;
        if (key_ring_want_named(&now, r->ring.keys[i].kms, r->ring.keys[i].name, &k, err) < 0)
            return -1;
        r->left += ring_key_below(k, r->newest[i]);
    }
    return 0;
}

static int print(const struct run *r, struct error *err)
{
    static const struct output_column columns[] = {
        { "rewrapped", "rewrapped", false },
        { "skipped", "skipped", false },
        { "busy", "busy", false },
        { "failed", "failed", false },
        { "unfinished", "unfinished", false },
        { "gone", "gone", false },
        { "untried", "not tried", false },
        { "left", "left under old", false },
        { "kv", "in KV, skipped", false },
        { "file", "in a file, skipped", false },
        { "client", "made by devices, skipped", false },
        { "unreadable", "unreadable", false },
    };
    AUTO_JSON json_t *o = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rewrapped",
        (json_int_t)r->counts[REWRAPPED], "skipped", (json_int_t)r->counts[REWRAP_SKIPPED], "busy",
        (json_int_t)r->counts[REWRAP_BUSY], "failed", (json_int_t)r->counts[REWRAP_FAILED],
        "unfinished", (json_int_t)r->counts[REWRAP_UNFINISHED], "gone",
        (json_int_t)r->counts[REWRAP_GONE], "untried", (json_int_t)r->untried, "left",
        (json_int_t)r->left, "kv", (json_int_t)r->ring.kv, "file", (json_int_t)r->ring.file,
        "client", (json_int_t)r->ring.client, "unreadable",
        (json_int_t)json_array_size(r->ring.gaps));

    return output_object(r->cli->out, r->cli->output, o, columns, ARRAY_SIZE(columns), err);
}

/* `left` also counts other tenants' volumes under the same key, so --volume doesn't go by it. */
static int judge(const struct run *r, struct error *err)
{
    size_t busy = r->counts[REWRAP_BUSY], failed = r->counts[REWRAP_FAILED];
    size_t unreadable = json_array_size(r->ring.gaps);
    const json_t *gap;
    size_t i;

    json_array_foreach (r->ring.gaps, i, gap) {
        AUTO_STRBUF struct strbuf text = STRBUF_INIT(4096);
        output_text(&text, json_string_value(json_object_get(gap, "problem")));
        (void)fprintf(r->cli->notes, "cofferctl: %s: %s\n",
                      json_string_value(json_object_get(gap, "what")), strbuf_text(&text));
    }
    if (busy + failed + unreadable == 0 && (r->left == 0 || key_flags.volume[0] != '\0'))
        return 0;
    return error_set(err, ERR_ABORTED,
                     "not all is done: %zu busy, %zu failed, %zu pools or records unreadable, %zu "
                     "left under an old version; what was done stays done, run it again",
                     busy, failed, unreadable, r->left);
}

static int finish(struct run *r, struct error *err)
{
    struct error stopped = ERROR_INIT;
    bool whole = work(r, &stopped) == 0;

    show_progress(r, true);
    if (!whole)
        r->untried = r->n;
    if (count_left(r, err) < 0 || print(r, err) < 0)
        return -1;
    return whole ? judge(r, err) : error_pass(err, &stopped);
}

static int run(const struct cli *cli, struct error *err)
{
    AUTO_KEY_TARGET struct key_target *t = NULL;
    struct run r = { .cli = cli };
    int result = -1;

    if (key_target_open(cli, true, &t, err) < 0)
        return -1;
    r.t = t;
    if (key_ring_init(&r.ring, err) == 0 && prepare(&r, err) == 0)
        result = finish(&r, err);
    release(&r);
    return result;
}

const struct verb key_rewrap = {
    .group = "key",
    .name = "rewrap",
    .help = "move volumes' wrapped keys to the newest version of their tenants' keys, in use or "
            "not; can be killed and run again",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .check = check,
    .run = run,
};
