"""An Alerta server to compare with: from PyPI, on a PostgreSQL cluster of its own, everything in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("alerta-server", "psycopg2-binary", "gunicorn")
WORKERS, THREADS = 2, 16
NOBODY = "nobody"
DATABASE = "alerta"


class NoAlerta(Exception):
    """There is none here; the message says why."""


@contextmanager
def alerta(folder: Path, port: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Install Alerta and run its database while the context is open; yield its command and what the environment adds.

    Plugins are off: what is measured is taking an alert, finding it again and storing it.

    Raises:
        NoAlerta: no PostgreSQL, or a step failed.
    """
    found = shutil.which("initdb")
    if found is None:
        raise NoAlerta("no PostgreSQL here (initdb is not in the path)")
    tools = Path(found).resolve().parent
    data = folder / "postgres"
    data.mkdir()
    folder.chmod(0o755)
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(data, NOBODY)
    bin_ = folder / "venv" / "bin"
    _do([sys.executable, "-m", "venv", str(folder / "venv")])
    _do([str(bin_ / "python"), "-m", "pip", "install", "--quiet", *PACKAGES])
    _do([str(tools / "initdb"), "-D", str(data / "d"), "-A", "trust", "-U", DATABASE, "-E", "UTF8"], unprivileged=True)
    control = [str(tools / "pg_ctl"), "-D", str(data / "d"), "-w"]
    listens = f"-k {data} -c listen_addresses=''"
    _do([*control, "-l", str(data / "log"), "-o", listens, "start"], unprivileged=True)
    try:
        _do([str(tools / "createdb"), "-h", str(data), "-U", DATABASE, DATABASE])
        settings = folder / "alertad.conf"
        settings.write_text(
            f"DATABASE_URL = 'postgresql://{DATABASE}@/{DATABASE}?host={data}'\nSECRET_KEY = 'bench'\nPLUGINS = []\n"
        )
        shape = [
            "--workers",
            str(WORKERS),
            "--worker-class",
            "gthread",
            "--threads",
            str(THREADS),
            "--keep-alive",
            "60",
        ]
        # Preloaded: two workers that create the tables at once fail.
        gunicorn = [str(bin_ / "gunicorn"), *shape, "--preload", "--no-control-socket", "--bind", f"127.0.0.1:{port}"]
        yield [*gunicorn, "alerta:create_app()"], {"ALERTA_SVR_CONF_FILE": str(settings)}
    finally:
        _do([*control, "-m", "immediate", "stop"], unprivileged=True)


def _do(command: list[str], *, unprivileged: bool = False) -> None:
    user = NOBODY if unprivileged and os.geteuid() == 0 else None
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        user=user,
        cwd="/",
    )
    if done.returncode:
        raise NoAlerta(f"{Path(command[0]).name} failed: {done.stdout.decode(errors='replace')[-300:]}")
