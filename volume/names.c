/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "volume/names.h"

#include <ctype.h>
#include <errno.h>
#include <unistd.h>

static bool is_one_of(char c, const char *more)
{
    return isalnum((unsigned char)c) != 0 || (c != '\0' && strchr(more, c) != NULL);
}

/* CSI's domain-name notation as csi-sanity checks it: it begins and ends with a letter. */
static bool driver_name_valid(const char *name)
{
    size_t len = strlen(name);

    if (len < 2 || len > DRIVER_NAME_MAX || !isalpha((unsigned char)name[0]) ||
        !isalpha((unsigned char)name[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_one_of(name[i], "-._"))
            return false;
    }
    return true;
}

static bool node_id_valid(const char *id)
{
    size_t len = strlen(id);

    if (len == 0 || len > NODE_ID_MAX || !is_one_of(id[0], "") || !is_one_of(id[len - 1], ""))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_one_of(id[i], "-._"))
            return false;
    }
    return true;
}

int driver_node_id(const char **node_id, struct error *err)
{
    static char host[256];

    if ((*node_id)[0] != '\0')
        return 0;
    if (gethostname(host, sizeof(host) - 1) < 0)
        return error_errno(err, errno, "read the host's name (--node-id is empty)");
    *node_id = host;
    return 0;
}

int driver_names_check(const char *driver_name, const char *node_id,
                       char ret_topology_key[TOPOLOGY_KEY_MAX + 1], struct error *err)
{
    if (!driver_name_valid(driver_name))
        return error_set(err, ERR_INVALID,
                         "driver name '%.64s' is not 2 to %d of [A-Za-z0-9._-] that begin and end "
                         "with a letter",
                         driver_name, DRIVER_NAME_MAX);
    if (!node_id_valid(node_id))
        return error_set(err, ERR_INVALID,
                         "node id '%.64s' is not 1 to %d of [A-Za-z0-9._-] that begin and end with "
                         "a letter or digit",
                         node_id, NODE_ID_MAX);
    (void)snprintf(ret_topology_key, TOPOLOGY_KEY_MAX + 1, "topology.%s/node", driver_name);
    return 0;
}
