// SPDX-License-Identifier: Apache-2.0
// What a browser gets at the VM's URL: notes, kept by the store (database "notes") that serves it. Relative addresses alone: what stands
// before them is the proxy's. The proxy gives the page an origin of its own (CSP sandbox), so it keeps nothing in the browser.

export const DATABASE = 'notes';

export const PAGE = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Notes</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 40rem; padding: 1rem; }
textarea { box-sizing: border-box; font: inherit; width: 100%; }
li { overflow-wrap: anywhere; white-space: pre-wrap; }
</style>
</head>
<body>
<h1>Notes</h1>
<p>This page and what you write here come from your own cloud: they are on its encrypted volume.</p>
<form id="new">
<label for="text">A note</label>
<textarea id="text" rows="3" required></textarea>
<button type="submit">Keep it</button>
</form>
<p id="status" role="status">Reading…</p>
<ul id="notes"></ul>
<script type="module">
const db = 'personalcloud/${DATABASE}', at = (id) => document.getElementById(id);
const ask = async (path, options) => {
  const answer = await fetch(path, options);
  const value = await answer.json();
  if (!answer.ok && answer.status !== 412) throw new Error(value.reason ?? answer.status);
  return value;
};
async function show() {
  const all = await ask(db + '/_all_docs?include_docs=true');
  const notes = all.rows.map((row) => row.doc).sort((a, b) => a.written - b.written);
  at('notes').replaceChildren(...notes.map((note) => {
    const item = document.createElement('li');
    item.textContent = note.text;
    return item;
  }));
  at('status').textContent = notes.length === 1 ? 'One note.' : notes.length + ' notes.';
}
const run = (what) => what().catch((e) => { at('status').textContent = 'It failed: ' + e.message; });
at('new').addEventListener('submit', (event) => {
  event.preventDefault();
  run(async () => {
    await ask(db, { method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ text: at('text').value, written: Date.now() }) });
    at('text').value = '';
    await show();
  });
});
run(async () => {
  await ask(db, { method: 'PUT' });
  await show();
});
</script>
</body>
</html>
`;
