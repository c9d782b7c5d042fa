/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "crypt/dm.h"

#include "common/cleanup.h"
#include "common/fault.h"
#include "common/strbuf.h"
#include "crypt/mapping.h"
#include "crypt/table.h"

#include <errno.h>
#include <fcntl.h>
#include <libdevmapper.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static char last_words[160]; /* of libdevmapper, for the next error */

static void cleanup_task(struct dm_task **t)
{
    if (*t != NULL)
        dm_task_destroy(*t);
}
#define AUTO_DM_TASK __attribute__((cleanup(cleanup_task)))

PRINTF_LIKE(5, 6)
static void keep_words(int level, const char *file, int line, int dm_errno, const char *fmt, ...)
{
    va_list args;

    if ((level & 7) > 4) /* libdevmapper's levels: 4 warn, 3 error, 2 fatal; flags above */
        return;
    va_start(args, fmt);
    (void)vsnprintf(last_words, sizeof(last_words), fmt, args);
    va_end(args);
}

void dm_setup(void)
{
    (void)setenv("DM_DISABLE_UDEV", "1", 1); /* a udev cookie waits for ever inside a container */
    (void)dm_set_name_mangling_mode(DM_STRING_MANGLING_NONE);
}

void dm_names_list_release(struct dm_names_list *l)
{
    free(l->names);
    *l = (struct dm_names_list){ .names = NULL, .n = 0 };
}

static struct dm_task *new_task(int type, const char *name, int (*prepare)(struct dm_task *),
                                struct error *err)
{
    AUTO_DM_TASK struct dm_task *task = NULL;

    last_words[0] = '\0';
    dm_log_with_errno_init(keep_words); /* libcryptsetup installs its own and takes it away again */
    task = dm_task_create(type);
    if (task == NULL) {
        (void)error_set(err, ERR_UNAVAILABLE, "device-mapper can't be used on this machine: %s",
                        last_words);
        return NULL;
    }
    if ((name != NULL && !dm_task_set_name(task, name)) || !dm_task_secure_data(task) ||
        (prepare != NULL && !prepare(task))) {
        (void)error_set(err, ERR_INTERNAL, "device-mapper: a request can't be prepared: %s",
                        last_words);
        return NULL;
    }
    return TAKE_PTR(task);
}

/* A task that was told its device and has run. NULL with *err set; ENXIO is ERR_NOT_FOUND. */
static struct dm_task *run_task(int type, const char *name, int (*prepare)(struct dm_task *),
                                struct error *err)
{
    AUTO_DM_TASK struct dm_task *task = new_task(type, name, prepare, err);
    int e;

    if (task == NULL || dm_task_run(task))
        return TAKE_PTR(task);
    e = dm_task_get_errno(task);
    if (e == ENXIO)
        (void)error_set(err, ERR_NOT_FOUND, "no mapping '%s'", name != NULL ? name : "");
    else
        (void)error_errno(err, e != 0 ? e : EIO, "device-mapper, '%s': %s",
                          name != NULL ? name : "", last_words);
    return NULL;
}

/* --- the device list --- */

static bool name_is_ours(const char *name)
{
    char hash[33], tag[9];

    return volume_dm_name_parse(name, hash, tag) == 0;
}

/* Calls cb for every device's name until it returns non-zero; that is the result. */
static int each_name(int (*cb)(void *ctx, const char *name, struct error *err), void *ctx,
                     struct error *err)
{
    AUTO_DM_TASK struct dm_task *task = run_task(DM_DEVICE_LIST, NULL, NULL, err);
    const struct dm_names *names;
    int r = 0;

    if (task == NULL)
        return -1;
    names = dm_task_get_names(task);
    if (names == NULL)
        return error_set(err, ERR_INTERNAL, "device-mapper gave no list of devices: %s",
                         last_words);
    if (names->dev == 0)
        return 0;
    for (;;) {
        r = cb(ctx, names->name, err);
        if (r != 0 || names->next == 0)
            return r;
        names = (const void *)((const char *)names + names->next);
    }
}

static int collect_ours(void *ctx, const char *name, struct error *err)
{
    struct dm_names_list *l = ctx;
    char(*grown)[DM_NAME_LEN + 1];

    if (!name_is_ours(name))
        return 0;
    grown = realloc(l->names, (l->n + 1) * sizeof(*grown));
    if (grown == NULL)
        return error_memory(err);
    l->names = grown;
    memcpy(l->names[l->n++], name, DM_NAME_LEN + 1);
    return 0;
}

int dm_list_ours(struct dm_names_list *ret, struct error *err)
{
    AUTO_DM_NAMES struct dm_names_list l = { .names = NULL, .n = 0 };

    if (each_name(collect_ours, &l, err) < 0)
        return -1;
    *ret = l;
    l.names = NULL;
    return 0;
}

/* --- one device --- */

static struct dm_task *task_info(const char *name, struct dm_info *ret, struct error *err)
{
    AUTO_DM_TASK struct dm_task *task = run_task(DM_DEVICE_INFO, name, NULL, err);

    if (task == NULL)
        return NULL;
    if (!dm_task_get_info(task, ret)) {
        (void)error_set(err, ERR_INTERNAL, "device-mapper told nothing about '%s'", name);
        return NULL;
    }
    if (!ret->exists) {
        (void)error_set(err, ERR_NOT_FOUND, "no mapping '%s'", name);
        return NULL;
    }
    return TAKE_PTR(task);
}

static int judge(struct mapping *m, enum mapping_state state, const char *why)
{
    m->state = state;
    if (why != m->why)
        (void)snprintf(m->why, sizeof(m->why), "%s", why);
    return 0;
}

/* A device number that sysfs doesn't know has lost its disk. No sysfs at all: we can't say. */
static int backing_present(dev_t dev, bool *ret, struct error *err)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    if (faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0) {
        *ret = true;
        return 0;
    }
    if (errno != ENOENT || faccessat(AT_FDCWD, "/sys/dev/block", F_OK, AT_EACCESS) < 0)
        return error_errno(err, errno, "look for '%s'", path);
    *ret = false;
    return 0;
}

static int judge_crypt(struct mapping *m, const char *params, struct error *err)
{
    char uuid[37];
    struct table_facts facts;
    bool present = false, ours;

    if (volume_uuid_from_dm(m->dm_uuid, m->name, uuid) < 0)
        return judge(m, MAPPING_WRONG, "its dm uuid isn't Coffer's for that name");
    ours = table_is_ours(params, uuid, &facts, m->why);
    m->backing = facts.backing;
    m->discards = facts.discards;
    if (m->backing != 0 && backing_present(m->backing, &present, err) < 0)
        return -1;
    if (m->backing != 0 && !present)
        return judge(m, MAPPING_ZOMBIE, "its backing device is gone");
    return judge(m, ours ? MAPPING_OK : MAPPING_WRONG, ours ? "" : m->why);
}

static int judge_table(struct mapping *m, struct dm_task *task, struct error *err)
{
    uint64_t start = 0, length = 0;
    char *type = NULL, *params = NULL;
    void *more = dm_get_next_target(task, NULL, &start, &length, &type, &params);

    m->size = length * 512;
    if (type == NULL)
        return judge(m, MAPPING_ZOMBIE, "its table is empty");
    if (strcmp(type, "error") == 0)
        return judge(m, MAPPING_ZOMBIE, "its table is an error target");
    if (more != NULL || start != 0 || strcmp(type, "crypt") != 0)
        return judge(m, MAPPING_WRONG, "its table isn't one crypt target");
    return judge_crypt(m, params != NULL ? params : "", err);
}

static int no_flush(struct dm_task *task)
{
    return dm_task_no_flush(task);
}

static int judge_live(struct mapping *m, const struct dm_info *info, struct error *err)
{
    AUTO_DM_TASK struct dm_task *task = run_task(DM_DEVICE_TABLE, m->name, no_flush, err);

    if (task == NULL || judge_table(m, task, err) < 0)
        return -1;
    if (info->deferred_remove)
        return judge(m, MAPPING_ZOMBIE, "it is marked for removal by its last opener");
    if (m->state == MAPPING_OK && info->suspended)
        return judge(m, MAPPING_WRONG, "it is suspended");
    return 0;
}

int dm_inspect(const char *name, struct mapping *ret, bool *ret_inactive, struct error *err)
{
    struct mapping m = { .name = "" };
    struct dm_info info;
    AUTO_DM_TASK struct dm_task *task = task_info(name, &info, err);
    const char *uuid;

    if (task == NULL)
        return -1;
    uuid = dm_task_get_uuid(task);
    if (str_copy(m.name, sizeof(m.name), name) < 0)
        return error_set(err, ERR_INVALID, "'%s' is no name of a mapping of ours", name);
    if (uuid != NULL && str_copy(m.dm_uuid, sizeof(m.dm_uuid), uuid) < 0)
        m.dm_uuid[0] = '\0'; /* longer than ours can be: judged as not ours */
    m.dev = makedev(info.major, info.minor);
    m.open_count = info.open_count;
    m.read_only = info.read_only != 0;
    if (!info.live_table)
        (void)judge(&m, MAPPING_ZOMBIE, "it has no live table");
    else if (judge_live(&m, &info, err) < 0)
        return -1;
    if (ret_inactive != NULL)
        *ret_inactive = info.inactive_table != 0;
    *ret = m;
    return 0;
}

struct other {
    const char *name, *prefix;
};

static int refuse_other(void *ctx, const char *name, struct error *err)
{
    const struct other *o = ctx;
    struct dm_info info;
    struct error local = ERROR_INIT;
    AUTO_DM_TASK struct dm_task *task = NULL;
    const char *uuid;

    if (strcmp(name, o->name) == 0)
        return 0;
    task = task_info(name, &info, &local);
    if (task == NULL && local.code == ERR_NOT_FOUND)
        return 0; /* went away since the list was made */
    if (task == NULL)
        return error_pass(err, &local);
    uuid = dm_task_get_uuid(task);
    if (uuid == NULL || strncmp(uuid, o->prefix, strlen(o->prefix)) != 0)
        return 0;
    return error_set(err, ERR_PRECONDITION,
                     "the volume is already mapped under another name, '%.128s'", name);
}

int dm_refuse_other_names(const char *name, const char *uuid, struct error *err)
{
    char prefix[DM_UUID_MAX + 1];
    struct other o = { .name = name, .prefix = prefix };

    volume_dm_uuid(uuid, "", prefix);
    return each_name(refuse_other, &o, err);
}

/* --- changes --- */

int dm_clear_inactive(const char *name, struct error *err)
{
    AUTO_DM_TASK struct dm_task *task = NULL;

    FAULT_POINT("crypt:dm:clear");
    task = run_task(DM_DEVICE_CLEAR, name, NULL, err);
    return task != NULL ? 0 : -1;
}

static int prepare_deferred(struct dm_task *task)
{
    return dm_task_deferred_remove(task);
}

int dm_remove(const char *name, bool deferred, struct error *err)
{
    struct error local = ERROR_INIT;
    AUTO_DM_TASK struct dm_task *task = NULL;

    FAULT_POINT("crypt:dm:remove");
    task = run_task(DM_DEVICE_REMOVE, name, deferred ? prepare_deferred : NULL, &local);
    if (task == NULL && local.code != ERR_NOT_FOUND)
        return error_pass(err, &local);
    FAULT_POINT("crypt:dm:removed");
    dm_task_update_nodes();
    dm_drop_node(name);
    return 0;
}

void dm_drop_node(const char *name)
{
    char path[128];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/%s", dm_dir(), name);
    if (lstat(path, &st) == 0 && S_ISBLK(st.st_mode))
        (void)unlink(path);
}
