/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cofferctl volume locate: where a volume's bytes are and who has them: image, loop device,
 * mapping, mounts, holders. Takes no lock and changes nothing. A part that can't be looked at says
 * so in its place, and the rest is shown all the same.
 */
#include "common/base.h"
#include "cofferctl/verbs.h"

#include "backends/backend.h"
#include "common/blockdev.h"
#include "common/deadline.h"
#include "common/holders.h"
#include "common/json.h"
#include "common/mountinfo.h"
#include "common/parse.h"
#include "crypt/client.h"

#include <unistd.h>

#define LIST_LIMIT_MS 30000u
#define LINES_MAX     1000u /* of holders or mounts */

static struct {
    const char *crypt_helper;
} options;

static const struct flag flags[] = {
    { "crypt-helper", NULL, FLAG_STRING, &options.crypt_helper, "/usr/libexec/coffer/coffer-crypt",
      "absolute path of coffer-crypt, which judges the mapping (as root)", NULL },
};

static void set(json_t *obj, const char *key, json_t *value)
{
    (void)json_object_set_new(obj, key, value); /* out of memory: the field is missing */
}

/* An item of a list: "text" is what the table shows. */
static void add_problem(json_t *list, const char *text)
{
    (void)json_array_append_new(list, json_pack("{s:s}", "text", text));
}

/* ---- record and image ---- */

static void add_record(json_t *obj, struct pool *pool, const struct volume_id *id)
{
    struct error local = ERROR_INIT;
    struct record r;

    if (pool->ops->peek_record(pool, id, &r, &local) == 0)
        set(obj, "record", json_string(record_state_name(r.state)));
    else
        set(obj, "record", json_string(local.msg));
}

static void add_image(json_t *obj, const struct volume_where *where)
{
    set(obj, "place", json_string(where->place));
    set(obj, "image", where->has_data ? json_string(where->data) : json_string("none"));
    if (!where->has_data)
        return;
    set(obj, "size", json_integer((json_int_t)where->size));
    set(obj, "allocated", json_integer((json_int_t)where->allocated));
}

static bool add_line(void *ctx, const struct holder *h)
{
    json_t *list = ctx;
    static const char *const kinds[] = {
        [HOLDER_DEVICE] = "device", [HOLDER_PROCESS] = "process", [HOLDER_MOUNT] = "mount"
    };
    char text[512];

    holder_text(h, text, sizeof(text));
    return json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind",
                                                 kinds[h->kind], "pid", h->pid, "name", h->name,
                                                 "path", h->path, "text", text)) == 0 &&
           json_array_size(list) < LINES_MAX;
}

static void add_loops(json_t *obj, const struct volume_where *where)
{
    json_t *list = json_array();

    for (size_t i = 0; i < where->n_attachments && i < WHERE_ATTACHMENTS_MAX; i++) {
        const struct attachment *a = &where->attachments[i];
        char dev[DEV_TEXT_SIZE];

        blockdev_text(a->dev, dev);
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:b, s:o}", "path", a->path, "device", dev, "whole",
                            a->ours, "text",
                            json_sprintf("%s (%s)%s", a->path, dev,
                                         a->ours ? "" : ", read-only or a part of the image")));
    }
    if (where->problem[0] != '\0')
        add_problem(list, where->problem);
    set(obj, "loops", list);
}

/* ---- mapping ---- */

/* What sysfs shows to everybody: no judgement. */
static bool by_sysfs(json_t *obj, const char *dm_name, const char *why, dev_t *ret)
{
    struct error local = ERROR_INIT;
    struct dm_device d;
    char dev[DEV_TEXT_SIZE];

    if (dm_device_find(dm_name, &d, &local) < 0) {
        set(obj, "mapping_state",
            local.code == ERR_NOT_FOUND ? json_string("none") : json_string(local.msg));
        return false;
    }
    blockdev_text(d.dev, dev);
    set(obj, "mapping", json_string(dm_name));
    set(obj, "dm_uuid", json_string(d.uuid));
    set(obj, "device", json_string(dev));
    set(obj, "mapped_size", json_integer((json_int_t)d.size));
    set(obj, "read_only", json_boolean(d.read_only));
    set(obj, "mapping_state", json_sprintf("live, not judged: %s", why));
    *ret = d.dev;
    return true;
}

static void by_helper(json_t *obj, const struct mapping *m)
{
    static const char *const states[] = {
        [MAPPING_OK] = "ok", [MAPPING_ZOMBIE] = "zombie", [MAPPING_WRONG] = "wrong"
    };
    char dev[DEV_TEXT_SIZE], backing[DEV_TEXT_SIZE];

    blockdev_text(m->dev, dev);
    blockdev_text(m->backing, backing);
    set(obj, "mapping", json_string(m->name));
    set(obj, "dm_uuid", json_string(m->dm_uuid));
    set(obj, "device", json_string(dev));
    set(obj, "backing", m->backing != 0 ? json_string(backing) : json_null());
    set(obj, "mapped_size", json_integer((json_int_t)m->size));
    set(obj, "read_only", json_boolean(m->read_only));
    set(obj, "open_count", json_integer(m->open_count));
    set(obj, "mapping_state",
        m->why[0] == '\0' ? json_string(states[m->state])
                          : json_sprintf("%s: %s", states[m->state], m->why));
}

/* true: there is one, and *ret its number. */
static bool add_mapping(json_t *obj, const char *dm_name, dev_t *ret)
{
    const struct crypt_client c = { .helper = options.crypt_helper };
    AUTO_MAPPING_LIST struct mapping_list list = { .items = NULL, .n = 0 };
    struct error local = ERROR_INIT;

    if (geteuid() != 0)
        return by_sysfs(obj, dm_name, "that needs root", ret);
    if (crypt_list(&c, deadline_in(LIST_LIMIT_MS), &list, &local) < 0)
        return by_sysfs(obj, dm_name, local.msg, ret);
    const struct mapping *m = mapping_find(&list, dm_name);
    if (m == NULL) {
        set(obj, "mapping_state", json_string("none"));
        return false;
    }
    by_helper(obj, m);
    *ret = m->dev;
    return true;
}

static void add_mounts(json_t *obj, dev_t mapping)
{
    AUTO_MOUNT_TABLE struct mount_table t = { .items = NULL, .n = 0 };
    struct error local = ERROR_INIT;
    json_t *list = json_array();

    if (mount_table_load(&t, &local) < 0)
        add_problem(list, local.msg);
    for (size_t i = 0; i < t.n && json_array_size(list) < LINES_MAX; i++) {
        if (mount_match(&t.items[i], mapping) != MOUNT_OURS)
            continue;
        utf8_make_plain(t.items[i].point); /* any bytes; JSON has UTF-8 alone */
        (void)json_array_append_new(list, json_string(t.items[i].point));
    }
    set(obj, "mounts", list);
}

/* Of the mapping; without one, of whatever else shows the image. */
static void add_holders(json_t *obj, const struct volume_where *where, dev_t mapping)
{
    json_t *list = json_array();

    if (mapping != 0)
        holders_each(mapping, add_line, list);
    for (size_t i = 0; mapping == 0 && i < where->n_attachments && i < WHERE_ATTACHMENTS_MAX; i++)
        holders_each(where->attachments[i].dev, add_line, list);
    if (geteuid() != 0)
        add_problem(list, "only root sees everybody");
    set(obj, "holders", list);
}

/* ---- the verb ---- */

static const struct output_column columns[] = {
    { "id", "id", false },
    { "record", "record", false },
    { "place", "directory", false },
    { "image", "image", false },
    { "size", "image size", true },
    { "allocated", "on disk", true },
    { "loops", "loop device", false },
    { "mapping", "mapping", false },
    { "mapping_state", "mapping state", false },
    { "device", "mapping device", false },
    { "backing", "mapped from", false },
    { "mapped_size", "mapped size", true },
    { "read_only", "read-only", false },
    { "open_count", "opened", false },
    { "dm_uuid", "dm uuid", false },
    { "mounts", "mounted at", false },
    { "holders", "held by", false },
};

static int run(const struct cli *cli, struct error *err)
{
    AUTO_CONFIG struct config *config = NULL;
    AUTO_POOL_SET struct pool_set *set_of_pools = NULL;
    AUTO_JSON json_t *obj = json_object();
    struct pool *pool = NULL;
    struct volume_where where;
    struct volume_id id;
    char dm_name[DM_NAME_LEN + 1];
    dev_t mapping = 0;

    if (volume_id_parse(cli->operand, &id, err) < 0 || config_load(cli->config, &config, err) < 0 ||
        pool_set_open(config, &set_of_pools, err) < 0 ||
        pool_set_for_id(set_of_pools, &id, &pool, err) < 0 ||
        pool->ops->locate(pool, &id, &where, err) < 0)
        return -1;
    volume_id_dm_name(&id, dm_name);
    set(obj, "id", json_string(cli->operand));
    set(obj, "pool", json_string(id.pool));
    add_record(obj, pool, &id);
    add_image(obj, &where);
    add_loops(obj, &where);
    if (add_mapping(obj, dm_name, &mapping))
        add_mounts(obj, mapping);
    add_holders(obj, &where, mapping);
    return output_object(cli->out, cli->output, obj, columns, ARRAY_SIZE(columns), err);
}

const struct verb volume_locate = {
    .group = "volume",
    .name = "locate",
    .operand = "ID",
    .help = "show where a volume's bytes are, which devices show them and who holds those",
    .flags = flags,
    .n_flags = ARRAY_SIZE(flags),
    .run = run,
};
