"""The command line. Packages are imported when a command runs, so that ``leanrx --help`` answers at once."""
