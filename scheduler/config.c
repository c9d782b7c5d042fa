/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "scheduler/config.h"

#include "common/fs.h"
#include "common/strbuf.h"
#include "scheduler/driver.h"
#include "volume/fskind.h"

#define CONFIG_MAX    MIB(1) /* thousands of nodes */
#define SECONDS_MAX   3600u
#define HEADROOM_MAX  90u
#define VM_MEMORY_MIN MIB(16)

static void read_vm(struct json_reader *r, struct scheduler_config *c, struct error *err)
{
    json_t *obj = json_get_object_opt(r, "vm");
    struct json_reader vm;

    if (obj == NULL)
        return;
    vm = json_reader_of(obj, "vm");
    (void)json_get_u64_opt(&vm, "memory", &c->memory);
    (void)json_get_string_opt(&vm, "ready_path", c->ready_path, sizeof(c->ready_path));
    (void)json_get_u64_opt(&vm, "ready_seconds", &c->ready_seconds);
    (void)json_get_u64_opt(&vm, "stop_seconds", &c->stop_seconds);
    if (c->memory < VM_MEMORY_MIN)
        json_problem(&vm, "field 'memory' must be at least 16777216 bytes");
    if (c->ready_path[0] != '/' || strpbrk(c->ready_path, " \t\r\n?#") != NULL)
        json_problem(&vm, "field 'ready_path' must be a path, such as /personalcloud/");
    if (c->ready_seconds < 1 || c->ready_seconds > SECONDS_MAX)
        json_problem(&vm, "field 'ready_seconds' must be 1 to %u", SECONDS_MAX);
    if (c->stop_seconds > SECONDS_MAX)
        json_problem(&vm, "field 'stop_seconds' must be at most %u", SECONDS_MAX);
    if (json_reader_done(&vm, err) < 0)
        json_problem(r, "vm: %s", vm.problem);
}

static void read_place(struct json_reader *r, struct scheduler_config *c, struct error *err)
{
    json_t *obj = json_get_object_opt(r, "place");
    struct json_reader place;
    uint64_t headroom = c->headroom_percent;

    if (obj == NULL)
        return;
    place = json_reader_of(obj, "place");
    (void)json_get_u64_opt(&place, "headroom_percent", &headroom);
    (void)json_get_bool_opt(&place, "spread", &c->spread);
    (void)json_get_u64_opt(&place, "clouds_max", &c->clouds_max);
    if (headroom > HEADROOM_MAX)
        json_problem(&place, "field 'headroom_percent' must be at most %u", HEADROOM_MAX);
    c->headroom_percent = (uint32_t)headroom;
    if (json_reader_done(&place, err) < 0)
        json_problem(r, "place: %s", place.problem);
}

static void read_driver(struct json_reader *r, struct scheduler_config *c)
{
    char name[32];

    json_get_string(r, "driver", name, sizeof(name));
    if (r->problem[0] != '\0')
        return;
    c->driver = driver_find(name);
    if (c->driver == NULL)
        json_problem(r, "there is no driver '%s'", name);
    else
        c->options = json_incref(json_get_object(r, c->driver->name));
}

/* Where VMs are reached: what a path can follow. */
static void read_url(struct json_reader *r, struct scheduler_config *c)
{
    size_t len;

    json_get_string(r, "url", c->url, sizeof(c->url));
    len = strlen(c->url);
    if ((strncmp(c->url, "https://", 8) != 0 && strncmp(c->url, "http://", 7) != 0) ||
        c->url[len - 1] != '/' || strpbrk(c->url, " \t\r\n?#") != NULL)
        json_problem(r, "field 'url' must be an http or https URL that ends in '/'");
}

static int decode(json_t *obj, struct scheduler_config *c, struct error *err)
{
    struct json_reader r = json_reader_of(obj, "the scheduler's configuration");

    read_driver(&r, c);
    read_url(&r, c);
    json_get_string(&r, "tenant", c->tenant, sizeof(c->tenant));
    (void)json_get_string_opt(&r, "fs", c->fs, sizeof(c->fs));
    (void)json_get_u64_opt(&r, "size", &c->size);
    read_vm(&r, c, err);
    read_place(&r, c, err);
    if (r.problem[0] == '\0' && !tenant_valid(c->tenant))
        json_problem(&r, "field 'tenant' must be 1 to %d of a-z, 0-9 and '-'", TENANT_MAX);
    if (fs_kind_find(c->fs) == NULL || strcmp(c->fs, FS_KIND_NONE) == 0)
        json_problem(&r, "there is no file system '%s'", c->fs);
    if (c->size == 0)
        json_problem(&r, "field 'size' must not be 0");
    return json_reader_done(&r, err);
}

int scheduler_config_parse(const char *text, size_t len, struct scheduler_config **ret,
                           struct error *err)
{
    AUTO_JSON json_t *obj = NULL;
    AUTO_SCHEDULER_CONFIG struct scheduler_config *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return error_memory(err);
    *c = (struct scheduler_config){ .fs = "ext4",
                                    .size = GIB(1),
                                    .memory = MIB(256),
                                    .ready_path = "/personalcloud/",
                                    .ready_seconds = 60,
                                    .stop_seconds = 10,
                                    .headroom_percent = 10 };
    if (json_parse(text, len, "the scheduler's configuration", &obj, err) < 0 ||
        decode(obj, c, err) < 0)
        return -1;
    *ret = TAKE_PTR(c);
    return 0;
}

int scheduler_config_load(const char *path, struct scheduler_config **ret, struct error *err)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT(CONFIG_MAX);

    if (fs_read_path(path, CONFIG_MAX, &text, err) < 0) /* in a ConfigMap it is a link */
        return -1;
    if (scheduler_config_parse(strbuf_text(&text), text.len, ret, err) < 0)
        return error_prefix(err, "'%s'", path);
    return 0;
}

void scheduler_config_free(struct scheduler_config *c)
{
    if (c == NULL)
        return;
    json_decref(c->options);
    free(c);
}
