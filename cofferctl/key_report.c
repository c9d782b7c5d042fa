/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/key_report.h"

#include "common/cleanup.h"
#include "common/fs.h"
#include "common/parse.h"
#include "common/strbuf.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define REPORT_VERSION 1
#define REPORT_MAX     MIB(16)
#define TIME_FORM      "%Y-%m-%dT%H:%M:%SZ"

/* ---- making one ---- */

json_t *key_report_row(const struct ring_key *k)
{
    AUTO_JSON json_t *versions = json_object();
    char name[24];

    for (size_t i = 0; i < k->n_versions; i++) {
        (void)snprintf(name, sizeof(name), "%llu", (unsigned long long)k->versions[i].version);
        if (json_object_set_new(versions, name, json_integer((json_int_t)k->versions[i].volumes)) <
            0)
            return NULL;
    }
    return json_pack("{s:s, s:s, s:s, s:O, s:I, s:I}", "kms", k->kms->name, "mount",
                     k->kms->vault->mount, "key", k->name, "versions", versions, "in_flight",
                     (json_int_t)k->in_flight, "unfinished", (json_int_t)k->unfinished);
}

static json_t *pools_of(const struct pool_set *set)
{
    json_t *list = json_array();

    for (size_t i = 0; i < set->n; i++)
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s}", "name", set->pools[i]->config->name,
                                              "tag", set->pools[i]->tag));
    return list;
}

static void format_time(int64_t made, char ret[21])
{
    time_t t = (time_t)made;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL || strftime(ret, 21, TIME_FORM, &tm) == 0)
        (void)snprintf(ret, 21, "1970-01-01T00:00:00Z");
}

json_t *key_report_make(const struct key_ring *ring, const struct pool_set *set, int64_t made,
                        bool whole, struct error *err)
{
    char host[256] = "", text[21];

    (void)gethostname(host, sizeof(host) - 1);
    format_time(made, text);
    json_t *report =
        json_pack("{s:i, s:s, s:s, s:b, s:o, s:[], s:I, s:{s:I, s:I}, s:O}", "v", REPORT_VERSION,
                  "host", host, "made", text, "whole", (int)whole, "pools", pools_of(set), "keys",
                  "erased", (json_int_t)ring->erased, "others", "kv", (json_int_t)ring->kv, "file",
                  (json_int_t)ring->file, "gaps", ring->gaps);
    if (report == NULL)
        (void)error_memory(err);
    return report;
}

/* ---- reading one ---- */

void key_report_release(struct key_report *r)
{
    for (size_t i = 0; i < r->n_keys; i++)
        free(r->keys[i].versions);
    free(r->keys);
    json_decref(r->tags);
    *r = (struct key_report){ .keys = NULL };
}

static int parse_time(const char *text, int64_t *ret)
{
    struct tm tm = { .tm_sec = 0 };
    const char *end = strptime(text, TIME_FORM, &tm);

    if (end == NULL || *end != '\0')
        return -1;
    *ret = timegm(&tm);
    return 0;
}

static int compare_versions(const void *a, const void *b)
{
    const struct key_version *x = a, *y = b;

    return x->version < y->version ? -1 : x->version > y->version;
}

static int read_versions(const json_t *obj, struct report_key *k, struct error *err)
{
    const char *name;
    json_t *count;

    k->versions = calloc(json_object_size(obj) + 1, sizeof(*k->versions));
    if (k->versions == NULL)
        return error_memory(err);
    json_object_foreach ((json_t *)(uintptr_t)obj, name, count) {
        struct key_version *v = &k->versions[k->n_versions];

        if (parse_u64(name, &v->version) < 0 || json_integer_value(count) <= 0)
            return error_set(err, ERR_INVALID, "field 'versions' must count volumes");
        v->volumes = (size_t)json_integer_value(count);
        k->n_versions++;
    }
    qsort(k->versions, k->n_versions, sizeof(*k->versions), compare_versions);
    return 0;
}

/* Fields that only people read are passed over. */
static int read_key(json_t *obj, struct report_key *k, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "a key");

    json_get_string(&r, "mount", k->mount, sizeof(k->mount));
    json_get_string(&r, "key", k->name, sizeof(k->name));
    json_get_u64(&r, "in_flight", &k->in_flight);
    const json_t *versions = json_get_object(&r, "versions");
    if (r.problem[0] != '\0')
        return error_set(err, ERR_INVALID, "a key: %s", r.problem);
    return read_versions(versions, k, err);
}

static int read_keys(const json_t *list, struct key_report *ret, struct error *err)
{
    json_t *item;
    size_t i;

    ret->keys = calloc(json_array_size(list) + 1, sizeof(*ret->keys));
    if (ret->keys == NULL)
        return error_memory(err);
    json_array_foreach (list, i, item) {
        ret->n_keys = i + 1;
        if (read_key(item, &ret->keys[i], err) < 0)
            return -1;
    }
    return 0;
}

/* Only a pool that was there when the report was made has a tag. */
static int read_tags(const json_t *list, struct key_report *ret, struct error *err)
{
    json_t *item;
    size_t i;

    ret->tags = json_array();
    json_array_foreach (list, i, item) {
        json_t *tag = json_object_get(item, "tag");

        if (!json_is_string(tag))
            return error_set(err, ERR_INVALID, "a pool has no 'tag'");
        if (json_string_length(tag) > 0)
            (void)json_array_append(ret->tags, tag);
    }
    return 0;
}

static int read_fields(json_t *obj, struct key_report *ret, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "report");
    char made[21] = "";
    uint64_t v = 0;
    bool whole = false;

    json_get_u64(&r, "v", &v);
    json_get_bool(&r, "whole", &whole);
    json_get_string(&r, "host", ret->host, sizeof(ret->host));
    json_get_string(&r, "made", made, sizeof(made));
    const json_t *pools = json_get_array(&r, "pools"), *keys = json_get_array(&r, "keys");
    const json_t *gaps = json_get_array(&r, "gaps");
    if (r.problem[0] != '\0')
        return error_set(err, ERR_INVALID, "%s", r.problem);
    if (v != REPORT_VERSION)
        return error_set(err, ERR_INVALID, "version %llu of a report is not known here",
                         (unsigned long long)v);
    if (!whole)
        return error_set(err, ERR_INVALID,
                         "it is not of all keys: make it without --tenant and "
                         "--kms");
    if (parse_time(made, &ret->made) < 0)
        return error_set(err, ERR_INVALID, "field 'made' must be a time");
    ret->n_gaps = json_array_size(gaps);
    return read_tags(pools, ret, err) < 0 || read_keys(keys, ret, err) < 0 ? -1 : 0;
}

int key_report_decode(const char *text, size_t len, struct key_report *ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    struct key_report r = { .keys = NULL };

    if (json_parse(text, len, "report", &obj, err) < 0)
        return -1;
    if (read_fields(obj, &r, err) < 0) {
        key_report_release(&r);
        return -1;
    }
    *ret = r;
    return 0;
}

/* ---- all of them ---- */

void key_reports_release(struct key_reports *reports)
{
    for (size_t i = 0; i < reports->n; i++)
        key_report_release(&reports->items[i]);
    free(reports->items);
    *reports = (struct key_reports){ .items = NULL };
}

int key_reports_read(const struct flag_strings *paths, struct key_reports *ret, struct error *err)
{
    AUTO_KEY_REPORTS struct key_reports all = { .items =
                                                    calloc(paths->len + 1, sizeof(*all.items)) };

    if (all.items == NULL)
        return error_memory(err);
    for (size_t i = 0; i < paths->len; i++) {
        AUTO_STRBUF struct strbuf text = STRBUF_INIT(REPORT_MAX);

        if (fs_read_at(AT_FDCWD, paths->items[i], REPORT_MAX, &text, err) < 0)
            return -1;
        if (key_report_decode(strbuf_text(&text), text.len, &all.items[i], err) < 0)
            return error_prefix(err, "--report '%s'", paths->items[i]);
        all.n++;
    }
    *ret = all;
    all = (struct key_reports){ .items = NULL };
    return 0;
}

static bool has_tag(const json_t *tags, const char *tag)
{
    const json_t *item;
    size_t i;

    json_array_foreach (tags, i, item) {
        if (strcmp(json_string_value(item), tag) == 0)
            return true;
    }
    return false;
}

static int check_apart(const struct key_report *r, const struct key_reports *others, size_t n,
                       const struct pool_set *set, struct error *err)
{
    const json_t *item;
    size_t i;

    for (size_t k = 0; k < set->n; k++) {
        if (has_tag(r->tags, set->pools[k]->tag))
            return error_set(err, ERR_INVALID,
                             "the report of '%s' is of this machine: it has pool '%s'", r->host,
                             set->pools[k]->config->name);
    }
    json_array_foreach (r->tags, i, item) {
        for (size_t k = 0; k < n; k++) {
            if (has_tag(others->items[k].tags, json_string_value(item)))
                return error_set(err, ERR_INVALID,
                                 "the reports of '%s' and '%s' are of the same pool",
                                 others->items[k].host, r->host);
        }
    }
    return 0;
}

int key_reports_check(const struct key_reports *reports, const struct pool_set *set, uint64_t nodes,
                      struct error *err)
{
    for (size_t i = 0; i < reports->n; i++) {
        if (json_array_size(reports->items[i].tags) == 0)
            return error_set(err, ERR_INVALID, "the report of '%s' saw no pool",
                             reports->items[i].host);
        if (check_apart(&reports->items[i], reports, i, set, err) < 0)
            return -1;
    }
    if (reports->n + 1 == nodes)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "--nodes %llu: this machine and %zu --report make %zu (a report is what "
                     "'cofferctl key status --offline --output json' prints on a node)",
                     (unsigned long long)nodes, reports->n, reports->n + 1);
}

const struct report_key *key_report_find(const struct key_report *r, const struct ring_key *k)
{
    for (size_t i = 0; i < r->n_keys; i++) {
        if (strcmp(r->keys[i].mount, k->kms->vault->mount) == 0 &&
            strcmp(r->keys[i].name, k->name) == 0)
            return &r->keys[i];
    }
    return NULL;
}
