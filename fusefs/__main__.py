"""``python -m fusefs`` is ``fusefs``."""

from fusefs.cli.app import main

if __name__ == "__main__":
    main()
