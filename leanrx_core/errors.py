"""The error that leanrx raises for mistakes in its input."""


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line: it names the field, the value and what is allowed. The command line prints it and exits
    with code 2.
    """
