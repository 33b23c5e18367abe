"""`python -m tumble` and the `tumble` command."""

from .daemon.cli import main

if __name__ == "__main__":
    main()
