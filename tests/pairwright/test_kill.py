import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def drill(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "kill_drill.py", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not() -> None:
    done = drill("--random", "2", "--every", "23")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 runs differ" in done.stdout
    forced = [line for line in done.stdout.splitlines() if " call " in line]
    assert len(forced) >= 8
    assert all(line.startswith("killed at") for line in forced)
    assert any("before call" in line for line in forced)
    assert any("after call" in line for line in forced)


def test_a_killed_training_ends_with_the_bytes_of_one_that_was_not() -> None:
    done = drill("--random", "1", "--every", "91", "--training")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 runs differ" in done.stdout
