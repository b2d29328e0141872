"""From an exception to one sentence and an exit code."""

import contextlib
import errno
import sys

from pairwright.output import write_json

DONE, FAILED_CHECK, WRONG_REQUEST, ENVIRONMENT, INTERRUPTED = 0, 1, 2, 3, 130

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDER = {errno.ENOTDIR, errno.EEXIST}


class CheckError(Exception):
    """The data or a check did not pass; `after_result`: what was found is printed already."""

    def __init__(self, message: str, *, after_result: bool = False) -> None:
        super().__init__(message)
        self.after_result = after_result


def report_error(error: BaseException, *, as_json: bool) -> int:
    """The exit code, once the error is told on stderr, and on stdout where JSON is read there."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
        return WRONG_REQUEST
    code, sentence = exit_code(error), one_sentence(error)
    print(f"pairwright: {sentence}", file=sys.stderr)
    if as_json and not getattr(error, "after_result", False):
        with contextlib.suppress(OSError):  # stdout itself may be what cannot be written
            write_json({"error": sentence, "exit_code": code})
    return code


def exit_code(error: BaseException) -> int:
    """0 done, 1 the data failed, 2 the request was wrong, 3 the environment, 130 interrupted."""
    if _interrupted(error):
        return INTERRUPTED
    if hasattr(error, "format_message"):
        return WRONG_REQUEST
    if isinstance(error, CheckError):
        return FAILED_CHECK
    if isinstance(error, ValueError | FileNotFoundError):
        return WRONG_REQUEST
    return ENVIRONMENT


def one_sentence(error: BaseException) -> str:
    """What went wrong and how to mend it, in one line."""
    if _interrupted(error):
        return "interrupted; finished parts are kept, and the same command goes on from there"
    if hasattr(error, "format_message"):
        return f"{str(error.format_message()).rstrip('.')}; `pairwright --help` lists what there is"
    if type(error).__name__ == "ValidationError":
        return _of_record(error)
    if _out_of_memory(error):
        return (
            f"out of memory ({_line(error)}); lower the stage's batch (batch_size, ppo.microbatch, "
            "or per_device_train_batch_size of a trainer) or its max_length"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    if _unwritten(error):
        return (
            f"a file could not be written ({_line(error)}); is the disk full? Free some space and "
            "repeat the command: finished parts and checkpoints are kept"
        )
    where = "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, CheckError | ValueError | OSError):
        return _line(error) + where
    if isinstance(error, ModuleNotFoundError):
        return f"{_line(error)}; install what is missing (`pairwright doctor` lists it)"
    return f"unexpected {type(error).__name__}{where}: {_line(error)} (--debug shows where)"


def _of_record(error: BaseException) -> str:
    """The first complaint of pydantic, which is not imported until there is one."""
    from pydantic import ValidationError

    from schemas.arrow import first_error

    return first_error(error) if isinstance(error, ValidationError) else _line(error)


def _interrupted(error: BaseException) -> bool:
    """Whether the user pressed Ctrl-C; click has an exception of its own for it."""
    return isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort"


def _out_of_memory(error: BaseException) -> bool:
    """Whether Python, CUDA or torch's CPU allocator ran out; torch is not imported to ask."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    )


def _unwritten(error: BaseException) -> bool:
    """Whether torch, safetensors or tokenizers could not write; none says so with an OSError."""
    if type(error).__name__ == "SafetensorError":
        return "serializing: I/O error" in str(error)
    if any(str(error).endswith(f"(os error {number})") for number in _DISK_FULL):
        return True
    return isinstance(error, RuntimeError) and "inline_container.cc" in str(error)


def _of_system(error: OSError) -> str:
    where = f"'{error.filename}': " if error.filename is not None else ""
    if error.errno in _DISK_FULL:
        return (
            f"{where}the disk is full ({error.strerror}); free some space and repeat the command: "
            "finished parts are kept"
        )
    if error.errno in _READ_ONLY:
        return (
            f"{where}{error.strerror}; see that you may read and write there, or choose another "
            "folder (--run DIR for a run)"
        )
    if error.errno in _NO_FOLDER:
        return (
            f"{where}there is a file where a folder is expected; choose another folder "
            "(--run DIR for a run)"
        )
    return f"{where}{error.strerror or _line(error)}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
