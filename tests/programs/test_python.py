"""Python as agents use it: children, pools, sockets on loopback, venv, pip, pytest."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib.metadata import distribution
from typing import TYPE_CHECKING

import pytest

from ..callers import PYTHON

if TYPE_CHECKING:
    from ..desks import Desk

CHILDREN = """
import os, subprocess, sys, tempfile, threading
out = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True)
print(out.stdout.strip(), out.stderr)
with tempfile.TemporaryDirectory() as folder, open(folder + "/x", "w+") as file:
    subprocess.run("echo shell | tr a-z A-Z", shell=True, stdout=file, check=True)
    file.seek(0); print(file.read().strip())
got = []
threads = [threading.Thread(target=got.append, args=(n,)) for n in range(32)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(got))
print(os.path.realpath("/proc/self/exe") == os.path.realpath(sys.executable))
"""

POOL = """
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory

def square(n): return n * n
def fill(name, lock):
    block = shared_memory.SharedMemory(name=name)
    with lock: block.buf[:5] = b"hello"
    block.close()
def produce(queue):
    for n in range(1000): queue.put(n)
    queue.put(None)

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        with context.Pool(4) as pool: print(method, sum(pool.map(square, range(100))))
    with ProcessPoolExecutor(2) as pool: print(list(pool.map(square, range(4))))
    block = shared_memory.SharedMemory(create=True, size=64)
    child = mp.Process(target=fill, args=(block.name, mp.Lock())); child.start(); child.join()
    print(bytes(block.buf[:5])); block.close(); block.unlink()
    queue = mp.Queue(); child = mp.Process(target=produce, args=(queue,)); child.start()
    print(sum(iter(queue.get, None))); child.join()
    with mp.Manager() as manager:
        shared = manager.dict(); shared["a"] = 1; print(dict(shared))
"""

LOOPBACK = """
import asyncio, http.server, socket, threading, urllib.request
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
server.RequestHandlerClass.log_message = lambda *a: None
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/hello.txt"
print(urllib.request.urlopen(url, timeout=5).read().decode().strip())
url = f"http://localhost:{server.server_port}/hello.txt"
print(urllib.request.urlopen(url, timeout=5).read().decode().strip())

async def main():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    print((await process.communicate(b"async"))[0].decode())
    print(len(await asyncio.gather(*(asyncio.to_thread(sum, range(n)) for n in range(20)))))
asyncio.run(main())
a, b = socket.socketpair(); a.send(b"pair"); print(b.recv(4).decode())
"""

SQLITE = """
import sqlite3, threading
def connect():
    base = sqlite3.connect("data.db", timeout=20, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL"); return base
base = connect(); base.execute("CREATE TABLE t(n)")
def insert(k):
    own = connect()
    for n in range(50): own.execute("INSERT INTO t VALUES (?)", (k * 50 + n,))
threads = [threading.Thread(target=insert, args=(k,)) for k in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(base.execute("SELECT count(*), sum(n) FROM t").fetchone())
"""


def make_wheel(name: str, files: dict[str, str]) -> bytes:
    """A pure-Python wheel (PEP 427) of one version, with the given files."""
    info = f"{name}-1.0.dist-info"
    every = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},{digest(text.encode())}" for path, text in every.items()]
    every[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    return pack({path: text.encode() for path, text in every.items()})


def digest(data: bytes) -> str:
    """Hash and length as RECORD has them."""
    urlsafe = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={urlsafe},{len(data)}"


def pack(files: dict[str, bytes]) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return buffer.getvalue()


def installed_wheel(name: str) -> tuple[str, bytes]:
    """File name and content of a wheel, put together from an installed pure distribution."""
    found = distribution(name)
    files = {
        str(file): file.read_binary()
        for file in found.files or ()
        if file.parts[0] != ".." and file.suffix != ".pyc" and file.name != "RECORD"
    }
    (info,) = {path.split("/")[0] for path in files if path.endswith(".dist-info/WHEEL")}
    record = [f"{path},{digest(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    return f"{info.removesuffix('.dist-info')}-py3-none-any.whl", pack(files)


def needs_venv(desk: Desk) -> None:
    """Skip where Debian's interpreter cannot make environments."""
    desk.needs(PYTHON)
    if desk.run("outside", [PYTHON, "-c", "import ensurepip"]).code != 0:
        pytest.skip("ensurepip is missing: apt-get install python3-venv")


def test_subprocesses_and_threads(desk: Desk) -> None:
    desk.needs(PYTHON)
    desk.write("children.py", CHILDREN)
    assert desk.agree(PYTHON, "children.py") == "42 \nSHELL\n496\nTrue\n"


def test_multiprocessing_pools_queues_and_shared_memory(desk: Desk) -> None:
    desk.needs(PYTHON)
    desk.write("pool.py", POOL)
    out = desk.agree(PYTHON, "pool.py")
    assert out.splitlines()[:3] == ["fork 328350", "spawn 328350", "forkserver 328350"]
    assert out.splitlines()[3:] == ["[0, 1, 4, 9]", "b'hello'", "499500", "{'a': 1}"]


def test_servers_and_clients_on_the_own_loopback(desk: Desk) -> None:
    desk.needs(PYTHON)
    desk.write("hello.txt", "over loopback\n")
    desk.write("loopback.py", LOOPBACK)
    out = desk.agree(PYTHON, "loopback.py")
    assert out == "over loopback\nover loopback\nasync\n20\npair\n"


def test_sqlite_module_with_writers_in_threads(desk: Desk) -> None:
    desk.needs(PYTHON)
    desk.write("base.py", SQLITE)
    assert desk.agree(PYTHON, "base.py") == "(200, 19900)\n"


def test_pip_installs_a_local_wheel_into_a_venv(desk: Desk) -> None:
    needs_venv(desk)
    files = {
        "greeting.py": "def main():\n    print('hello from the wheel')\n",
        "greeting-1.0.dist-info/entry_points.txt": "[console_scripts]\ngreet = greeting:main\n",
    }
    desk.write("greeting-1.0-py3-none-any.whl", make_wheel("greeting", files))
    desk.write(
        "script.sh",
        f"""set -e
{PYTHON} -m venv env
env/bin/pip install -q --no-index --disable-pip-version-check ./greeting-1.0-py3-none-any.whl
env/bin/greet
env/bin/pip uninstall -q -y --disable-pip-version-check greeting
env/bin/python -c 'import greeting' 2>/dev/null || echo gone
""",
    )
    out = desk.agree("sh", "script.sh", timeout=120)
    assert out == "hello from the wheel\ngone\n"


def test_pytest_tests_a_small_project(desk: Desk) -> None:
    needs_venv(desk)
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
        file, data = installed_wheel(name)
        desk.write(f"wheels/{file}", data)
    desk.write("project/area.py", "def area(w, h):\n    return w * h\n")
    desk.write(
        "project/test_area.py",
        "import pytest\nfrom area import area\n\n"
        "@pytest.mark.parametrize('w', range(20))\ndef test_area(w, tmp_path, capfd):\n"
        "    (tmp_path / 'f').write_text('x')\n    assert area(w, 2) == 2 * w\n",
    )
    desk.write(
        "script.sh",
        f"""set -e
{PYTHON} -m venv env
env/bin/pip install -q --no-index --find-links wheels --disable-pip-version-check pytest
cd project && ../env/bin/pytest -q | sed 's/ in .*//'
""",
    )
    assert "20 passed" in desk.agree("bash", "-o", "pipefail", "script.sh", timeout=120)
