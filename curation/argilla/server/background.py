"""The embedded server as a child of this process, for tests, the self-test and the demo."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from curation.argilla.server.accounts import Account
from curation.argilla.server.environment import Progress
from curation.argilla.server.stack import Started

_ROOT = Path(__file__).parents[3]
_GOES_WITHIN = 10.0


@contextlib.contextmanager
def start_background(
    home: Path,
    port: int | None = None,
    *,
    annotators: Sequence[str] = (),
    progress: Progress = lambda line: None,
) -> Iterator[Started]:
    """A server of the home that answers, for as long as the block and this process live.

    Without a port it is any free one from 6900.

    Raises:
        OSError: it did not start; the sentence is the launcher's own.
    """
    command = [sys.executable, "-m", "curation.argilla.server", str(home)]
    command += [str(port)] if port is not None else []
    command += [part for name in annotators for part in ("--annotator", name)]
    paths = [str(_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    launcher = subprocess.Popen(
        [*command, "--json", "--while-stdin"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    listener = threading.Thread(target=_listen, args=(launcher, said, progress), daemon=True)
    listener.start()
    try:
        assert launcher.stdout
        line = launcher.stdout.readline()
        if not line:
            launcher.wait()
            listener.join()
            raise OSError(said[-1] if said else "the launcher of Argilla ended without a word")
        told = json.loads(line)
        yield Started(**told | {"accounts": [Account(**account) for account in told["accounts"]]})
    finally:
        launcher.terminate()
        try:
            launcher.wait(_GOES_WITHIN)
        except subprocess.TimeoutExpired:
            launcher.kill()
            launcher.wait()
        for stream in (launcher.stdin, launcher.stdout):
            if stream:
                stream.close()
        listener.join()


def _listen(launcher: subprocess.Popen[str], said: list[str], progress: Progress) -> None:
    assert launcher.stderr
    with launcher.stderr as lines:
        for line in lines:
            said.append(line.rstrip("\n"))
            progress(said[-1])
