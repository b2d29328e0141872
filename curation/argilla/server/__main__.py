"""The launcher as a program: `python -m curation.argilla.server HOME [PORT]`."""

import argparse
import json
import sys
from pathlib import Path

from curation.argilla.server.stack import Started, serve, stop_when_closed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m curation.argilla.server", description=__doc__)
    parser.add_argument("home", type=Path, help="folder of the server's data")
    parser.add_argument("port", type=int, nargs="?", help="default: 6900 or the next free one")
    parser.add_argument("--annotator", action="append", default=[], help="account to make")
    parser.add_argument("--json", action="store_true", help="print one line of JSON when ready")
    parser.add_argument("--while-stdin", action="store_true", help="stop when stdin is closed")
    options = parser.parse_args()
    if options.while_stdin:
        stop_when_closed(sys.stdin.fileno())
    try:
        serve(
            options.home,
            options.port,
            annotators=options.annotator,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
            ready=_print_json if options.json else _print_plain,
        )
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return 2 if isinstance(error, ValueError) else 3
    return 0


def _print_json(started: Started) -> None:
    accounts = [account._asdict() for account in started.accounts]
    print(json.dumps(started._asdict() | {"accounts": accounts}), flush=True)


def _print_plain(started: Started) -> None:
    print(f"Argilla runs at {started.url} (process {started.pid}); stop it with Ctrl-C")
    for account in started.accounts:
        if account.password:
            print(f"{account.role} '{account.username}', password {account.password} (shown once)")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
