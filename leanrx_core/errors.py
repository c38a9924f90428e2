"""The one error of the house, apart from everything heavy."""


class UserError(Exception):
    """A mistake that the user can mend. The command line prints it in one line and exits with code 2."""
