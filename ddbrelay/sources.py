"""What the events of a mapping have as their source, as far as it is known without a record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddbrelay.flow.mapping.templates import Template


@dataclass(frozen=True)
class Source:
    """A source of events; one that is not `exact` is how all of them begin."""

    text: str
    exact: bool = True

    @classmethod
    def of(cls, template: Template) -> Source:
        """What a rule gives its events: up to the first hole, it is known."""
        return cls(template.start, exact=template.constant is not None)

    @property
    def pattern(self) -> Any:
        """One alternative of an event pattern; what nothing is known of is at least not AWS's."""
        if self.exact:
            return self.text
        return {"prefix": self.text} if self.text else {"anything-but": {"prefix": "aws."}}

    @property
    def condition(self) -> str:
        """The value of a StringLike condition."""
        return self.text if self.exact else f"{self.text}*"
