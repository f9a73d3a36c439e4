"""The closed sets of words that tables and code share. No code: everything may import it at no cost."""

from typing import Literal

ArmName = Literal["panel", "think", "no_panel", "native"]
AnswerType = Literal["int", "latex", "gsm8k"]
StopReason = Literal["stop", "length"]
Status = Literal["correct", "wrong", "no_answer", "unparsable", "timeout"]
