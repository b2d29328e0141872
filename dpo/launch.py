"""What the launcher of several processes must have done before training begins."""

import os


def check_processes(joined: int) -> None:
    """Return if all processes that the launcher started have joined the training.

    Raises:
        ValueError: they have not, so that each would train a policy of its own.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if joined != launched:
        raise ValueError(
            f"the launcher started {launched} processes but {joined} joined; start with "
            "torchrun, `accelerate launch --cpu` leaves each process alone"
        )
