/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http/transfer.h: inside http/: a client's parts, and one request from its start to its end.
 */
#ifndef COFFER_HTTP_TRANSFER_H
#define COFFER_HTTP_TRANSFER_H

#include "http/client.h"

#include <curl/curl.h>

struct http_client {
    struct event_loop *loop;
    CURLM *multi;
    struct event_timer timer; /* libcurl's */
    struct http_transfer *transfers;
    char *ca_path, *cert_path, *key_path, *proxy, *unix_path;
    uint64_t connect_timeout_ms;
};

/* libcurl is done with it: takes it apart, then calls `done`. */
void transfer_finish(struct http_transfer *t, CURLcode result);

#endif
