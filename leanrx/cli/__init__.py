"""The command line. Modules are imported when a command runs, so that ``leanrx --help`` is instant."""
