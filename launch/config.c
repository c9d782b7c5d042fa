/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "launch/config.h"

#include "common/fs.h"
#include "common/json.h"
#include "common/strbuf.h"

#define CONFIG_MAX  KIB(16)
#define WORD_MAX    4000u
#define MEMORY_MIN  MIB(16)
#define PIDS_MIN    8u /* init, the program, and the threads that Node.js starts with */
#define PIDS_MAX    32768u
#define PERCENT_MAX 102400u
#define UID_MIN     65536u /* below are the host's own users */
#define UID_MAX     UINT32_MAX

void launch_config_free(struct launch_config *c)
{
    for (size_t i = 0; i < COMMAND_WORDS; i++)
        free(c->command[i]);
    for (size_t i = 0; i < FOLDERS_MAX; i++)
        free(c->folders[i]);
    free(c);
}

/* An absolute path without a "." or ".." in it that could lead elsewhere. */
static bool path_valid(const char *text)
{
    return text[0] == '/' && text[1] != '\0' && strstr(text, "/./") == NULL &&
           strstr(text, "/../") == NULL && strstr(text, "//") == NULL;
}

static void read_texts(struct json_reader *r, const json_t *list, const char *key, size_t max,
                       char **ret)
{
    const json_t *item;
    size_t i;

    if (json_array_size(list) > max) {
        json_problem(r, "field '%s' holds more than %zu texts", key, max);
        return;
    }
    json_array_foreach (list, i, item) {
        const char *text = json_string_value(item);
        if (text == NULL || strlen(text) > WORD_MAX)
            json_problem(r, "field '%s' must hold texts of at most %u bytes", key, WORD_MAX);
        else if ((ret[i] = strdup(text)) == NULL)
            json_problem_memory(r);
        else
            continue;
        return;
    }
}

static void read_command(struct json_reader *r, struct launch_config *c)
{
    const json_t *list = json_get_array(r, "command");

    if (list == NULL)
        return;
    read_texts(r, list, "command", COMMAND_WORDS, c->command);
    if (c->command[0] == NULL || !path_valid(c->command[0]))
        json_problem(r, "field 'command' must begin with the absolute path of a program");
}

/* What would show the VM more than it says, or hide what the VM needs. */
static bool folder_forbidden(const char *path)
{
    static const char *const own[] = { "/proc", "/sys", "/dev", "/tmp",           "/etc", "/usr",
                                       "/run",  "/var", "/bin", "/personalcloud", "/root" };
    for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
        size_t len = strlen(own[i]);
        if (strncmp(path, own[i], len) == 0 && (path[len] == '\0' || path[len] == '/'))
            return true;
    }
    return strncmp(path, "/lib", 4) == 0 || strncmp(path, "/sbin", 5) == 0;
}

static void read_folders(struct json_reader *r, struct launch_config *c)
{
    const json_t *list = json_get_any_opt(r, "folders");

    if (list == NULL)
        return;
    if (!json_is_array(list)) {
        json_problem(r, "field 'folders' must be an array");
        return;
    }
    read_texts(r, list, "folders", FOLDERS_MAX, c->folders);
    for (size_t i = 0; i < FOLDERS_MAX && c->folders[i] != NULL; i++) {
        if (!path_valid(c->folders[i]) || folder_forbidden(c->folders[i]))
            json_problem(r, "field 'folders' holds a path that can't be shown to a VM");
    }
}

static void read_limits(struct json_reader *r, struct launch_config *c)
{
    const struct {
        const char *key;
        uint64_t *to, min, max;
    } rows[] = {
        { "memory", &c->memory, MEMORY_MIN, INT64_MAX },
        { "pids", &c->pids, PIDS_MIN, PIDS_MAX },
        { "cpu_percent", &c->cpu_percent, 1, PERCENT_MAX },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        json_get_u64(r, rows[i].key, rows[i].to);
        if (*rows[i].to < rows[i].min || *rows[i].to > rows[i].max)
            json_problem(r, "field '%s' must be %llu to %llu", rows[i].key,
                         (unsigned long long)rows[i].min, (unsigned long long)rows[i].max);
    }
}

static int read_uids(json_t *obj, struct launch_config *c, struct error *err)
{
    uint64_t first = 0, count = 0;
    struct json_reader r = json_reader_of(obj, "uids");

    json_get_u64(&r, "first", &first);
    json_get_u64(&r, "count", &count);
    if (first < UID_MIN || count == 0 || first >= UID_MAX || count > UID_MAX - first)
        json_problem(&r, "'first' must be %u or more, and 'first' and 'count' within %u", UID_MIN,
                     UID_MAX);
    if (json_reader_done(&r, err) < 0)
        return -1;
    c->uid_first = (uid_t)first;
    c->uid_count = (uint32_t)count;
    return 0;
}

int launch_config_parse(const char *text, size_t len, struct launch_config **ret, struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    AUTO_LAUNCH_CONFIG struct launch_config *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return error_memory(err);
    if (json_parse(text, len, "configuration", &obj, err) < 0)
        return -1;
    struct json_reader r = json_reader_of(obj, "configuration");
    read_command(&r, c);
    read_folders(&r, c);
    read_limits(&r, c);
    json_t *uids = json_get_object(&r, "uids");
    if (json_reader_done(&r, err) < 0 || read_uids(uids, c, err) < 0)
        return -1;
    *ret = TAKE_PTR(c);
    return 0;
}

int launch_config_load(const char *path, struct launch_config **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(CONFIG_MAX);

    if (fs_read_path(path, CONFIG_MAX, &text, err) < 0)
        return -1;
    if (launch_config_parse(strbuf_text(&text), text.len, ret, err) < 0)
        return error_prefix(err, "'%s'", path);
    return 0;
}
