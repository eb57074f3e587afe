"""The Prefer header (RFC 7240): whether the client would rather be answered later."""

from __future__ import annotations

from dataclasses import dataclass

from reelsight.errors import RequestError

__all__ = ["Preference"]

_LONGEST_S = 3600


@dataclass(frozen=True, slots=True)
class Preference:
    """What a client prefers.

    Attributes:
        later: `respond-async`: it takes a 202.
        wait_s: `wait=N`: seconds that it waits for an answer; None where it does not say.
    """

    later: bool = False
    wait_s: int | None = None

    @classmethod
    def parse(cls, text: str) -> Preference:
        """Read the header's value; preferences that are not known are passed over.

        Raises:
            RequestError: `request.prefer`: its `wait` is no number of seconds.
        """
        later, wait_s = False, None
        for part in text.lower().split(","):
            name, _, value = part.partition(";")[0].partition("=")
            if name.strip() == "respond-async":
                later = True
            elif name.strip() == "wait" and wait_s is None:
                number = value.strip().strip('"')
                if not (number.isascii() and number.isdigit() and len(number) < 9):
                    raise RequestError(
                        f"Prefer: wait={value.strip()!r} is no number of seconds",
                        code="request.prefer",
                        hint="Write Prefer: wait=30, or Prefer: respond-async.",
                    )
                wait_s = min(int(number), _LONGEST_S)
        # Who waits for nothing takes a 202: there is no other answer in no time.
        return cls(later or wait_s == 0, wait_s)

    def runs_later(self, size: int, seconds: float | None, max_size: int, most_s: float) -> bool:
        """Whether a clip becomes a job.

        Args:
            size: Its bytes.
            seconds: Its duration, as far as it is known.
            max_size: Bytes that are answered at once.
            most_s: Seconds of video that are.
        """
        if self.later or self.wait_s is not None:
            return self.later
        return size > max_size or (seconds is not None and seconds > most_s)

    @property
    def applied(self) -> dict[str, str]:
        """The header that says that it was followed, for an answer that is given later."""
        return {"Preference-Applied": "respond-async"} if self.later else {}
