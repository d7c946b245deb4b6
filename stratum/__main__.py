"""`python -m stratum`: the command line without its script; owns nothing else."""

from __future__ import annotations

from stratum.cli import main

if __name__ == "__main__":
    main()
