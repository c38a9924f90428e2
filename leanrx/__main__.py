"""``python -m leanrx`` is the command ``leanrx``."""

from leanrx.cli.main import main

if __name__ == "__main__":
    main()
