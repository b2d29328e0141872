import subprocess
import sys
from pathlib import Path


def test_rounds_that_are_killed_end_with_the_bytes_of_those_that_were_not(tmp_path: Path) -> None:
    drill = Path(__file__).parent / "rounds_drill.py"
    done = subprocess.run(
        [sys.executable, drill, tmp_path / "drill"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": killed") == 3
    assert "none differ" in done.stdout
