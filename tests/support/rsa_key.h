/* SPDX-License-Identifier: Apache-2.0 */
/* A key that tests know, of nobody: openssl genpkey, 2048 bits; and what openssl wrapped for it. */
#ifndef COFFER_TESTS_SUPPORT_RSA_KEY_H
#define COFFER_TESTS_SUPPORT_RSA_KEY_H

static const char RSA_PEM[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQD1XQsXKmkmVYW0\n"
                              "nPfaOWP8U3jhFUkdPXovmOoGkuV6Vkn4EMUFkkbwnndLt8BurJKYG4fFkgVe5Yyn\n"
                              "CbuJjaDU2cwLq+VHgArRkgRqlGhFeAb3ygHMbnwy8HrXBcOCve8Em2uSqY96Gw5/\n"
                              "MW3z9z5msFYgNo2ouExxkfQOCj8lmNnL3BjvupsxL+9zqkzexXUBhakl0MABov0R\n"
                              "ZNAeA+i3lQ/pL//kRTBEjNxTvMdFxB0GAcF/kMHHQN3t/9pGXMybr0W+mE7M3zjK\n"
                              "TwwmbsJAdMOzT1LGNVqPcMcgOB2AWkh2XalLNaVsysAKfihQnNyoLk6W5Emu93s5\n"
                              "UNX2dV3FAgMBAAECggEAVOpLgUvrMhoc+OHuITcFdHkK95LfR+BT3g8kxvulsY4V\n"
                              "cWWUWhZCuNmO3cSNM4BEB6JXfbfIZgw5fkGvBq7eP2vU4yEta25T0C2hm6Ua5Rfi\n"
                              "CXV+49pE33g8exgCjsfe5ZBITWyjPBYLEVfw/qLNlMpoNCPNKNwHkLJ7bTR8oCy1\n"
                              "kcsL+GrsGihLUzBzhEoTj3XPqJjkj07VWponPEu+W0By5/ztqGtWkKyR2Bv00EMW\n"
                              "fRxcI7+LiyRnomq4fwt0120mf8/vG4QdPwbNvoH7Q6MEFtZT9emRzx0m32g19ShX\n"
                              "9bkrxa2tBkiKRRcb5eU06T/vdj/mhTB3JCwSbS+JDQKBgQD7MK+zOnH+0Uy98kIP\n"
                              "dHEf5MATSYNQbXIwksILJCWNZkGCEtFaFWcxpIYM0W5F+YiMdX7yEJIF4kFi7aaL\n"
                              "0XERopuvhePWt/YYqeYKvWAOomlR0pF/Xhy4HrKK6zxsHa3hMhjtSlmLqJWHRUTm\n"
                              "TBHH/6fR7U3KY6R1xvgbdvI20wKBgQD6D8t6ieXPXkTaq1dBnfXuC3+gmeUbyDU3\n"
                              "QNhcolaZ0FGCYzAdjxtoQoMv7/NdE01g3Qy5G1EjDL1xYCYTaswD5kLeadf0zDhR\n"
                              "UEzeobW6m7pLZvkNBiFrQCoVGkExq0pdBHBrsrzOIgHzNoG+NVXxm2leq71WnW0L\n"
                              "midDH8PqBwKBgDHHyEpAvu69E/Rg2m6tqO2lK9umqft6dTLjIsmKdFa9eSYKDKtJ\n"
                              "qpXQATDxIGWFumX7sxjN5+J6oHK2nlb/PuU70JbMdgbLll307b4bIbpEvZKVpHgV\n"
                              "cqOakc+uJt9WUmtavk3oei6PTnLsa2colC2KoPudh9kgPiuJLwpiXEY5AoGBAIgE\n"
                              "j2nYGGjzngBTsuK+SUdyebmh/D1gaZHkc8vvgauo5K1HxqRNc1sC0tkAbB/0n+JQ\n"
                              "WttVQI0QIPvKkOt+6/ozBax1ZkKB0yBnzWhMDc2zZ2IcYNv0ubjc7gcMgOnDgm+W\n"
                              "OpBaaNi3Jthkja4o1NbW8jnMsPCsMORetXyNisOBAoGBAJD0VPM2MXy7kjmWvzIq\n"
                              "iSoimmRkuVnJaYngiMEztklYRcIzON+lz5AzDK4ooLwvu6sgqvXg1TwEu4O0TVIv\n"
                              "R8pchcOJijYdEGuNeyvPFpTCCftJ9IDXgSu6ptGjxMmer7CoPOdffwuE7D70Sl4x\n"
                              "gsz36Nk+f5sih1qG3gDsXM26\n"
                              "-----END PRIVATE KEY-----\n";

/* The bytes 0 to 31: openssl pkeyutl -encrypt, OAEP and MGF1 by SHA-256. */
static const char OPENSSL_256[] =
    "Dc8eB9VdPGjAKtUiQ64ocWOz2+rS19RWJMISU4ZFEzM3FRy4HuQBeDXGtv4sPq9Om22JhaalwTw54t8A"
    "xZx/jKX1sUksOS05y42mNQyK0iPcQefwimxv9R+6bUKeM6AVOgp6sQZYnQJHgALzTHC+sZbzotseH/UD"
    "jD9NPzINkKUOeBqSThD1tDgLR4y04JHEwHAAAhVeZFbWOEclMGuwTd0am6tBAvwvoaxP+eHoFnkpLZvf"
    "mIsj+xr95+Iad50RsAEJn5+rAr44N9Dsbw1R0+on77z38ah3xxc5ybUymjXhHMP/0ZOF5CJgwFqjrLwZ"
    "kqatzVU4XVfcXkdbkM3l8A==";

#endif
