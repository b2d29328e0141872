"""What a user is told of an exception, where the library that raised it does not say it plainly."""

import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pairwright.errors import ENVIRONMENT, exit_code, one_sentence


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 4096 bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def _torch(weights: dict[str, Any], file: Path) -> None:
    import torch

    torch.save(weights, file)


def _safetensors(weights: dict[str, Any], file: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights, file)


def _tokenizers(weights: dict[str, Any], file: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {str(number): number for number in range(1_000)}
    Tokenizer(WordLevel(words, unk_token="0")).save(str(file))


@pytest.mark.parametrize("save", [_torch, _safetensors, _tokenizers])
def test_a_file_that_a_library_cannot_write_is_a_full_disk(
    save: Callable[[dict[str, Any], Path], None], small_files: None, tmp_path: Path
) -> None:
    import torch

    with pytest.raises(Exception, match=r"\w") as caught:
        save({"weight": torch.zeros(100_000)}, tmp_path / "weights")
    told = one_sentence(caught.value)
    assert told.startswith("a file could not be written")
    assert "free some space" in told.lower()
    assert exit_code(caught.value) == ENVIRONMENT


def test_an_unexpected_error_says_what_it_was_raised_in() -> None:
    error = RuntimeError("broke")
    error.add_note("in reward 'mine'")
    assert one_sentence(error).startswith("unexpected RuntimeError, in reward 'mine': broke")


def test_a_wrong_value_says_in_which_reward_it_was_found() -> None:
    error = ValueError("invalid literal for int(): 'x'")
    error.add_note("in reward 'mine'")
    assert one_sentence(error) == "invalid literal for int(): 'x', in reward 'mine'"
