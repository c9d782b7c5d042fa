#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""deploy/monitoring: rules and dashboard ask for metrics that exist, by labels that they have; promtool takes the rules. TAP on
stdout, no root."""
import json
import os
import re
import shutil
import sys

import caselib
import deploylib
from caselib import ROOT, Skip

FOLDER = os.path.join(deploylib.DEPLOY, 'monitoring')
PAGE = os.path.join(ROOT, 'docs/metrics.md')
SCRAPED = {'container', 'pod', 'node', 'namespace', 'le'}


def metrics():
    """{name: type} of docs/metrics.md, a histogram's parts too."""
    if not os.path.exists(PAGE):
        raise Skip('there is no docs/metrics.md yet')
    found = dict(re.findall(r'^\| `(coffer_[a-z0-9_]+)` \| (\w+)', caselib.read(PAGE), re.M))
    for name, kind in list(found.items()):
        if kind == 'histogram':
            found.update({f'{name}_{part}': 'counter' for part in ('bucket', 'sum', 'count')})
    return found


def rules():
    deploylib.need_yaml()
    return [r for g in deploylib.documents(caselib.read(FOLDER, 'alerts.yaml'))[0]['groups'] for r in g['rules']]


def expressions():
    """(whose, expression), each."""
    dashboard = json.loads(caselib.read(FOLDER, 'dashboard.json'))
    return [(r['alert'], r['expr']) for r in rules()] + [(p['title'], t['expr']) for p in dashboard['panels'] for t in p.get('targets', [])]


def all_metrics_exist():
    known, used = metrics(), set()
    for whose, text in expressions():
        names = set(re.findall(r'\bcoffer_[a-z0-9_]+', text))
        assert names <= known.keys(), (whose, names - known.keys())
        assert names or 'up{' in text, (whose, text)
        used |= names
    assert len(used) > 25, sorted(used)


def counters_are_rated():
    """A counter's own value says nothing; a gauge's rate neither."""
    known = metrics()
    for whose, text in expressions():
        for name in set(re.findall(r'\bcoffer_[a-z0-9_]+', text)):
            rated = re.search(r'(?:rate|increase)\(' + name + r'\b', text)
            assert known[name] != 'counter' or rated, (whose, name, 'is a counter')
            assert known[name] != 'gauge' or not rated, (whose, name, 'is a gauge')


def labels_exist():
    words = set(re.findall(r'`([a-z_]+)`', caselib.read(PAGE))) if os.path.exists(PAGE) else set()
    metrics()
    for whose, text in expressions():
        labels = set(re.findall(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"', text))
        for group in re.findall(r'\bby \(([^)]*)\)', text):
            labels |= {word.strip() for word in group.split(',')}
        assert labels <= words | SCRAPED, (whose, labels - words - SCRAPED)


def alerts_say_what_to_do():
    names = [r['alert'] for r in rules()]
    assert len(names) == len(set(names)) and all(name.startswith('Coffer') for name in names)
    for r in rules():
        assert r['labels']['severity'] in ('critical', 'warning', 'info') and r['annotations']['summary'], r


def promtool_takes_the_rules():
    tool = os.environ.get('PROMTOOL') or shutil.which('promtool')
    if not tool:
        raise Skip('no promtool: Debian has it in package prometheus')
    assert f'{len(rules())} rules found' in caselib.run([tool, 'check', 'rules', f'{FOLDER}/alerts.yaml']).stdout
    caselib.run([tool, 'test', 'rules', f'{FOLDER}/alerts_test.yaml'])


def the_pod_monitor_is_the_charts():
    deploylib.need_yaml()
    plain = deploylib.documents(caselib.read(FOLDER, 'podmonitor.yaml'))[0]
    made = deploylib.chart_objects('--set', 'serviceMonitor.enabled=true')
    assert made['PodMonitor', 'coffer'] == plain, (made['PodMonitor', 'coffer'], plain)


def the_dashboard_fits():
    """No two panels on one place, ids once."""
    panels, taken = json.loads(caselib.read(FOLDER, 'dashboard.json'))['panels'], set()
    assert len({p['id'] for p in panels}) == len(panels)
    for p in panels:
        g = p['gridPos']
        cells = {(x, y) for x in range(g['x'], g['x'] + g['w']) for y in range(g['y'], g['y'] + g['h'])}
        assert g['x'] + g['w'] <= 24 and not cells & taken, p['title']
        taken |= cells


if __name__ == '__main__':
    sys.exit(caselib.main([all_metrics_exist, counters_are_rated, labels_exist, alerts_say_what_to_do, promtool_takes_the_rules,
                           the_pod_monitor_is_the_charts, the_dashboard_fits]))
