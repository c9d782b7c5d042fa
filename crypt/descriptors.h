/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptors.h: the numbers under which coffer-crypt finds what its caller passes. Shared by
 * client.c, which puts the descriptors there, and the helper; crypt/client.h says what each is for.
 */
#ifndef COFFER_CRYPT_DESCRIPTORS_H
#define COFFER_CRYPT_DESCRIPTORS_H

enum { FD_KEY = 3, FD_DEVICE = 4, FD_LOCK = 5, FD_OUT = 6, FD_NEW_KEY = 7, FD_PRIVATE_KEY = 8 };

#endif
