"""Run a script as a process of its own, forked from one that has torch imported, which is most of a start.

What depends on how a process starts or ends (terminals, signals) needs a real one: use subprocess there.
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from minuteloop.study.cell_process import PRELOADED

TRAIN = Path(__file__).parents[1] / "train.py"
FORKSERVER = multiprocessing.get_context("forkserver")


def run_script(script: Path, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run `python script words...` in `cwd` to its end; return its exit code and what it printed."""
    if "hydra/launcher=joblib" in words:  # its workers would keep a forked process waiting for 300 s
        return subprocess.run([sys.executable, script, *words], cwd=cwd, capture_output=True, text=True)
    FORKSERVER.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder) / name for name in ("stdout", "stderr")]
        arguments = (str(script), list(words), str(cwd or Path.cwd()), dict(os.environ), printed)
        process = FORKSERVER.Process(target=_run, args=arguments)
        process.start()
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text() for path in printed))


def _run(script: str, words: list[str], cwd: str, environment: dict[str, str], printed: list[Path]) -> None:
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [script, *words]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def descendants(parent: int) -> list[int]:
    """Return the processes below one; of each /proc names the parent."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [parent]
    for process in found:
        found += [child for child, of in parents.items() if of == process]
    return found[1:]
