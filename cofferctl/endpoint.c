/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base.h"
#include "cofferctl/endpoint.h"

#define SCHEME "unix://"

const char *endpoint_path(const char *socket)
{
    return strncmp(socket, SCHEME, strlen(SCHEME)) == 0 ? socket + strlen(SCHEME) : socket;
}

int endpoint_of(const char *socket, const char *flag, struct strbuf *ret, struct error *err)
{
    strbuf_addf(ret, SCHEME "%s", endpoint_path(socket));
    return strbuf_check(ret, flag, err);
}
