/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What coffer-launch reads: a client's request and its own configuration. What is taken keeps to
 * its limits: nothing but 32 hex digits ever becomes a part of a path.
 *
 * covers: launch/verb.c launch/config.c
 */
#include "tests/fuzz/target.h"

#include "common/parse.h"
#include "launch/config.h"
#include "launch/verb.h"

static void check_request(const struct verb *verb, const struct request *q)
{
    must(verb != NULL && verb->run != NULL);
    if ((verb->takes & TAKES_ID) != 0)
        must(hex_lower_valid(q->id, VM_ID_LEN));
    else
        must(q->id[0] == '\0');
    must(q->grace_ms <= GRACE_MAX_MS);
}

static void check_config(const struct launch_config *c)
{
    must(c->command[0] != NULL && c->command[0][0] == '/');
    must(c->command[COMMAND_WORDS] == NULL && c->folders[FOLDERS_MAX] == NULL);
    for (size_t i = 0; c->folders[i] != NULL; i++)
        must(c->folders[i][0] == '/' && strstr(c->folders[i], "/../") == NULL);
    must(c->uid_first >= 65536 && c->uid_count > 0 && c->uid_count <= UINT32_MAX - c->uid_first);
    must(c->memory > 0 && c->pids > 0 && c->cpu_percent > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_LAUNCH_CONFIG struct launch_config *config = NULL;
    const struct verb *verb = NULL;
    struct request q;
    struct error err = ERROR_INIT;

    mark(&q, sizeof(q));
    if (launch_request_decode((const char *)data, size, &verb, &q, &err) == 0)
        check_request(verb, &q);
    else
        must(err.code == ERR_INVALID && err.msg[0] != '\0' && verb == NULL);
    err = (struct error)ERROR_INIT;
    if (launch_config_parse((const char *)data, size, &config, &err) == 0)
        check_config(config);
    else
        must(err.code == ERR_INVALID && err.msg[0] != '\0' && config == NULL);
    return 0;
}
