"""`python -m pairwright` and `torchrun -m pairwright`: the same as the `pairwright` command."""

import sys

from pairwright.cli import main

sys.exit(main())
