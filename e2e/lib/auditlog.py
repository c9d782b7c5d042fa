# SPDX-License-Identifier: Apache-2.0
"""What Vault's audit log says was asked of it, by whom: how requests are counted.

    before = vault.audit.mark()
    …
    vault.audit.count(before, path='transit/decrypt/*', policy='coffer-node')

Vault writes one request and one response line per call before it answers, so what was answered is in the log. Strings in
bodies are HMACs; paths, operations, policies and display names are in clear, and here accessors too."""
import dataclasses
import fnmatch
import json
import os


@dataclasses.dataclass(frozen=True)
class Entry:
    """One request, whether it was allowed or not."""
    operation: str  # read, create, update, delete, list
    path: str
    policies: tuple
    display_name: str  # such as "approle", "token-node", "cert-node"
    accessor: str
    error: str  # '' when it was done
    line: str


class AuditLog:
    def __init__(self, path):
        """path: the file that Vault writes on this machine; None: there is none that we can read."""
        self.path, self.enabled = path, False

    def enable(self, root, name='coffer-test'):
        """hmac_accessor=false: an accessor names a token without giving it away."""
        root.call('POST', f'sys/audit/{name}', {'type': 'file', 'options': {'file_path': self.path, 'hmac_accessor': 'false'}})
        self.enabled = True

    def mark(self):
        """A point in time, for the other functions."""
        if not self.enabled:
            raise RuntimeError('this server has no audit log that the tests can read')
        return os.path.getsize(self.path)

    def lines(self, since, until=None):
        with open(self.path, 'rb') as f:
            f.seek(since)
            return f.read(until - since if until is not None else -1).decode().splitlines()

    def entries(self, since, until=None, path='*', policy=None, accessor=None):
        """The requests between two marks, by path pattern, by a policy of the token, by the token's accessor."""
        found = []
        for line in self.lines(since, until):
            record = json.loads(line)
            if record['type'] != 'response':
                continue  # each request has one response, which also says who it was after a login
            request, auth = record.get('request', {}), record.get('auth', {})
            entry = Entry(request.get('operation', ''), request.get('path', ''), tuple(auth.get('policies') or ()),
                          auth.get('display_name', ''), auth.get('accessor', ''), record.get('error', ''), line)
            if fnmatch.fnmatchcase(entry.path, path) and (policy is None or policy in entry.policies) and \
                    (accessor is None or accessor == entry.accessor):
                found.append(entry)
        return found

    def count(self, since, until=None, **which):
        return len(self.entries(since, until, **which))

    def table(self, since, until=None):
        """(operation, path, policies) -> how often: what a failed count prints."""
        counted = {}
        for e in self.entries(since, until):
            key = (e.operation, e.path, ','.join(e.policies))
            counted[key] = counted.get(key, 0) + 1
        return counted

    def contains(self, text):
        """Whether these bytes stand in the log in clear."""
        with open(self.path, 'rb') as f:
            return text in f.read()
