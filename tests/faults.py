"""Faults of a store: a disk that fills up or turns read-only, a server that dies or hangs."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from servers import HOST, free_port, mlflow_process

SIZE = 32_000_000
"""Room for two whole runs and what MLflow keeps of them."""


class Disk:
    """A separate file system on a loop device, whose faults are real kernel errors.

    Raises:
        OSError: It cannot be created here (needs root and loop devices); gives the reason.
    """

    def __init__(self, folder: Path) -> None:
        self._image, self.root = folder / "disk.img", folder / "disk"
        self.store = self.root / "mlflow.db"
        self.uri = f"sqlite:///{self.store}"
        self.root.mkdir()
        self._image.touch()
        os.truncate(self._image, SIZE)
        _tool("mkfs.ext4", "-q", "-m", "0", self._image)
        self._mount()

    def fill(self) -> None:
        """Fill the disk to the last block."""
        ballast = (self.root / "ballast").open("wb", buffering=0)
        with ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(bytes(4096))

    def turn_read_only(self) -> None:
        """Remount as the kernel does after a device error, while files are open."""
        _tool("mount", "-o", "remount,abort", self.root)

    def mend(self) -> None:
        self.remove()
        self._mount()
        (self.root / "ballast").unlink(missing_ok=True)

    def remove(self) -> None:
        _tool("umount", self.root)

    def _mount(self) -> None:
        _tool("mount", "-o", "loop", self._image, self.root)


class Server:
    """``mlflow server`` on an sqlite file, which can be killed, frozen and restarted."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "mlflow.db"
        self._port = free_port()
        self.uri = f"http://{HOST}:{self._port}"
        self._folder = folder
        self._start()

    def kill(self) -> None:
        """Kill the server: connections are refused from now on."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._alive.close()

    def freeze(self) -> None:
        """Stop the server: it still accepts connections but never answers."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def mend(self) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGCONT)
        else:
            self._start()

    def remove(self) -> None:
        self._alive.close()

    def _start(self) -> None:
        self._alive = contextlib.ExitStack()
        server = mlflow_process(f"sqlite:///{self.store}", self._folder, self._port)
        self._process = self._alive.enter_context(server)


def _tool(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
