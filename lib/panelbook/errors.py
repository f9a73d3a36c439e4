"""The one exception whose message is written for the reader of a terminal."""


class BookError(Exception):
    """Something the reader can mend: the message names the record, the rule, the value and the next step.

    The command line prints it without a traceback and exits with 1. Everything else that is raised
    is a defect of this project and keeps its traceback.
    """
