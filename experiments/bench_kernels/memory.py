"""Peak memory of a step above the memory held before it, each in its own process.

Linux only: the high-water mark is read, and reset, through /proc.
"""

import ctypes
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from contest import LIBRARIES, Work, quiet, step_of


def peak(library: str, work: Work) -> float:
    """Peak MB of a step, not counting queue, batch and code, which are in memory already.

    The child is forked from a process that has imported everything and computed nothing.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        step_of(library, replace(work, batch=64, queue=256))()  # loads the code itself
        step = step_of(library, work)
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = held("VmRSS")
        step()
        os.write(writer, json.dumps((held("VmHWM") - before) / 1024).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def held(key: str) -> int:
    """KB in memory now (VmRSS), or at the peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def main() -> None:
    """Read works from standard input, one JSON list per line; answer with MB by library."""
    quiet()
    for line in sys.stdin:
        work = Work(*json.loads(line))
        answer = {name: peak(name, work) for name in LIBRARIES if work.fits(name)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
