"""Log lines as JSON on stderr, one object a line, without the secrets in them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from deployments.request_id import request_id
from reelsight.redaction import redacted

__all__ = ["JsonLine", "log_as_json"]

_ROOTS = ("reelsight", "deployments", "engines")


class JsonLine(logging.Formatter):
    """A record as one JSON object: time (UTC), level, logger, event, request_id, and its facts.

    Every text in it goes through `reelsight.redaction`.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "request_id": request_id(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(
            {
                key: redacted(value) if isinstance(value, str) else value
                for key, value in line.items()
            },
            ensure_ascii=False,
        )


class _Stderr(logging.Handler):
    """Writes to what sys.stderr is when the line is written; Ray replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # Boundary: a line that cannot be written ends no request.
            self.handleError(record)


def log_as_json(level: str) -> None:
    """Let this project's loggers write JSON lines to stderr; a second call only sets the level.

    Args:
        level: debug, info, warning or error.
    """
    for name in _ROOTS:
        logger = logging.getLogger(name)
        logger.setLevel(level.upper())
        logger.propagate = False
        if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
            handler = _Stderr()
            handler.setFormatter(JsonLine())
            logger.addHandler(handler)
