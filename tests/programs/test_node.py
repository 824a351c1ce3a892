"""Node: worker threads, children, a server and fetch on loopback, npm without a network."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..desks import Desk

WORKERS = """
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage(workerData * 2); return; }
const { execFileSync, spawnSync } = require('child_process');
const run = n => new Promise((resolve, reject) =>
  new Worker(__filename, { workerData: n }).on('message', resolve).on('error', reject));
Promise.all([1, 2, 3, 4].map(run)).then(parts => {
  console.log(parts.reduce((a, b) => a + b));
  console.log(execFileSync('echo', ['child']).toString().trim());
  console.log(spawnSync('sh', ['-c', 'exit 5']).status);
  require('fs').writeFileSync('made.txt', 'made'); require('os').networkInterfaces();
  console.log(require('fs').readFileSync('made.txt', 'utf8'));
  console.log(require('crypto').randomBytes(8).length);
});
"""

SERVER = """
const http = require('http');
const server = http.createServer((request, response) => {
  let body = ''; request.on('data', part => body += part);
  request.on('end', () => response.end(`${request.method} ${body}`));
});
server.listen(0, '127.0.0.1', async () => {
  const url = `http://127.0.0.1:${server.address().port}/`;
  for (let n = 0; n < 20; n++) await (await fetch(url)).text();
  console.log(await (await fetch(url, { method: 'POST', body: 'x'.repeat(3) })).text());
  const byName = `http://localhost:${server.address().port}/`;
  console.log(await (await fetch(byName)).text());
  server.close(); server.closeAllConnections();
});
"""


def make_package() -> bytes:
    """A tarball as ``npm pack`` makes it."""
    files = {
        "package/package.json": json.dumps(
            {"name": "greeting", "version": "1.0.0", "main": "index.js", "bin": "cli.js"}
        ),
        "package/index.js": "module.exports = name => `hello ${name}`;\n",
        "package/cli.js": "#!/usr/bin/env node\nconsole.log(require('./index.js')('cli'));\n",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            entry.mode = 0o755 if name.endswith("cli.js") else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_node_workers_children_and_files(desk: Desk) -> None:
    desk.needs("node")
    desk.write("workers.js", WORKERS)
    assert desk.agree("node", "workers.js") == "20\nchild\n5\nmade\n8\n"


def test_node_serves_and_fetches_on_the_own_loopback(desk: Desk) -> None:
    desk.needs("node")
    desk.write("server.js", SERVER)
    assert desk.agree("node", "server.js") == "POST xxx\nGET \n"


def test_npm_installs_a_local_tarball(desk: Desk) -> None:
    desk.needs("node", "npm")
    desk.write("greeting-1.0.0.tgz", make_package())
    desk.write("package.json", json.dumps({"name": "project", "version": "1.0.0"}))
    desk.write("use.js", "console.log(require('greeting')('tarball'));\n")
    desk.write(
        "script.sh",
        "set -e\nnpm install --offline --silent ./greeting-1.0.0.tgz\nnode use.js\n"
        "node_modules/.bin/greeting\nnpm ls --offline --parseable | wc -l\n",
    )
    assert desk.agree("sh", "script.sh", timeout=120) == "hello tarball\nhello cli\n2\n"
