"""A process that is asked by lines of JSON, which is how contenders are kept apart.

Each line on stdin is `[command, arguments]`; each answer is one line on stdout, `{"answer": ...}`
or `{"error": text}`. What libraries print goes to stderr, which the parent sends to a log. What
the commands are is their owner's business.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TextIO

__all__ = ["answers_alone_on_stdout", "serve"]


def answers_alone_on_stdout() -> TextIO:
    """The stdout of this process, for answers; what else is printed goes to stderr from now on."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def serve(
    commands: Mapping[str, Callable[..., Any]],
    asked: TextIO,
    replies: TextIO,
    refusal: type[BaseException],
) -> None:
    """Answer every line until `quit` or the end; an error is an answer, and the next line is read.

    Args:
        commands: By name, taking the arguments by name.
        asked: Where lines come from.
        replies: Where answers go.
        refusal: What is raised by who has said what is wrong: those words are the answer. Of
            anything else the type is told too, and the log has its traceback.
    """
    for line in asked:
        command, arguments = json.loads(line)
        if command == "quit":
            return
        try:
            reply = {"answer": commands[command](**arguments)}
        except refusal as error:
            reply = {"error": str(error)}
        except Exception as error:  # Boundary: any library may fail in any way.
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
