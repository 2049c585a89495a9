"""A virtual environment of a peer's own under target/peers, made when it is first needed."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def restart_in(name, packages):
    """Runs the script again in the environment of that name, which has the packages."""
    home = Path(__file__).resolve().parents[2] / "target" / "peers" / name
    python = home / "bin" / "python"
    if Path(sys.executable) == python:
        raise ImportError(f"{home} lacks one of {packages}; remove it, and it is made anew")
    if not (home / ".complete").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        (home / ".complete").touch()
    os.execv(python, [str(python), *sys.argv])
