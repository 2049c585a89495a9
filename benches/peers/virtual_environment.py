"""Creates the virtual environment of a peer under target/peers on first use."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def restart_in(name, packages):
    """Restarts the script in the named environment with these packages."""
    home = Path(__file__).resolve().parents[2] / "target" / "peers" / name
    python = home / "bin" / "python"
    if Path(sys.executable) == python:
        raise ImportError(f"{home} lacks one of {packages}; remove the folder to create it again")
    if not (home / ".complete").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        (home / ".complete").touch()
    os.execv(python, [str(python), *sys.argv])
