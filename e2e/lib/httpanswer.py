# SPDX-License-Identifier: Apache-2.0
"""One answer over HTTP, whatever its status, with the JSON object in it: what Vault's (vaultapi.py) and coffer-scheduler's
(clouddevice.py) have in common."""
import dataclasses
import json


@dataclasses.dataclass
class HttpAnswer:
    status: int
    headers: dict  # names in lower case
    raw: bytes
    body: dict     # empty when raw is no JSON object

    @classmethod
    def of(cls, reply, raw):
        """reply: http.client's, from which raw was read."""
        try:
            body = json.loads(raw)
        except ValueError:
            body = {}
        return cls(reply.status, {name.lower(): value for name, value in reply.getheaders()}, raw, body if isinstance(body, dict) else {})
