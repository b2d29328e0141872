import subprocess
import sys
from pathlib import Path


def test_each_training_that_is_killed_ends_with_the_bytes_of_one_that_was_not(
    tmp_path: Path,
) -> None:
    drill = Path(__file__).parent / "training_drill.py"
    done = subprocess.run(
        [sys.executable, drill, tmp_path / "drill"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("sft", "reward", "ppo", "grpo"):
        assert f"{stage}: killed after step" in done.stdout
    assert done.stdout.count("none differ") == 2
