"""Errors that are the user's to mend: one line that says what was given, what was wanted and what to do."""


class UserError(ValueError):
    """Something the user (or a plugin) can mend; the command line prints it as one line and exits with 2."""


class UnknownName(UserError, LookupError):
    """A name that nothing is registered under."""


class NotApplicable(Exception):
    """A pair of model and evaluation that cannot be scored; its reason is reported in the row's place."""
