# SPDX-License-Identifier: Apache-2.0
"""A Debian copyright file in the machine-readable format as an SPDX licence expression. Names that SPDX has no identifier for
become LicenseRef-NAME. https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"""
import re

VERSIONS = (('GPL', ('1', '2', '2.0', '3', '3.0')), ('LGPL', ('2', '2.0', '2.1', '3', '3.0')), ('GFDL', ('1.2', '1.3')), ('AGPL', ('3',)))
SPDX = {
    **{name.lower(): name for name in ('Apache-2.0', 'Artistic-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'BSD-4-Clause', 'BSL-1.0', 'CC0-1.0',
                                       'curl', 'ISC', 'MIT', 'MPL-1.1', 'MPL-2.0', 'OLDAP-2.8', 'OpenSSL', 'X11', 'Zlib')},
    'apache-2': 'Apache-2.0', 'artistic': 'Artistic-1.0-Perl', 'artistic-2': 'Artistic-2.0', 'bsd-4-clause-uc': 'BSD-4-Clause-UC',
    'cc0': 'CC0-1.0', 'expat': 'MIT', 'openldap-2.8': 'OLDAP-2.8', 'unicode': 'Unicode-DFS-2016',
    **{f'{name}-{n}{plus}'.lower(): f'{name}-{n}{"" if "." in n else ".0"}-{"or-later" if plus else "only"}'
       for name, versions in VERSIONS for n in versions for plus in ('', '+')},
}
JOINT = re.compile(r'(?:,\s*)?\b(and|or)\b\s+', re.I)


def identifier(name):
    return SPDX.get(name.lower()) or 'LicenseRef-' + re.sub(r'[^A-Za-z0-9.-]+', '-', name.replace('+', '-or-later')).strip('-')


def _part(text):
    """Without a comma: `and` binds closer than `or`, in Debian as in SPDX."""
    pieces = JOINT.split(text.strip())
    return ' '.join(p.upper() if i % 2 else identifier(p.strip()) for i, p in enumerate(pieces))


def expression(synopsis):
    """One `License:` line. A comma before `and` or `or` binds least."""
    pieces = re.split(r',\s+(and|or)\s+', synopsis, flags=re.I)
    if len(pieces) == 1:
        return _part(synopsis)
    return ' '.join(p.upper() if i % 2 else f'({_part(p)})' for i, p in enumerate(pieces))


def synopses(text):
    """The licences that the file's `Files:` paragraphs name; [] when it is not machine-readable."""
    if not re.match(r'(?:#.*\n|\s)*Format(-Specification)?:', text):
        return []
    paragraphs = re.split(r'\n(?:[ \t]*\n)+', text)
    found = {m.group(1).strip() for p in paragraphs if re.search(r'^Files:', p, re.M)
             for m in [re.search(r'^License:[ \t]*(\S.*)$', p, re.M)] if m}
    return sorted(found)


def _conjuncts(text):
    """Its parts that are joined by AND alone, so that none is said twice."""
    return [text] if ' OR ' in text else text.replace('(', '').replace(')', '').split(' AND ')


def declared(text):
    """The SPDX expression for all of it together, or NOASSERTION; and the LicenseRefs in it: identifier -> Debian's name."""
    found = {e for s in synopses(text) for e in _conjuncts(expression(s))}
    whole = sorted(f'({e})' if ' OR ' in e and len(found) > 1 else e for e in found)
    names = {name.strip() for s in synopses(text) for part in re.split(r',\s+(?:and|or)\s+', s) for name in JOINT.split(part)[::2]}
    refs = {identifier(n): n for n in names if identifier(n).startswith('LicenseRef-')}
    return ' AND '.join(whole) or 'NOASSERTION', refs
