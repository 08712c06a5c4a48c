"""HTML as a tree: whatever a text holds, it is text when it is written."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from ddbrelay.text import printable

Child = Element | str | None


def el(tag: str, *children: Child, **attributes: str | int | float | None) -> Element:
    """An element; a child or an attribute of None is left out.

    `class_` is the attribute class, `aria_label` aria-label. What cannot be printed is replaced.
    """
    made = Element(
        tag,
        {
            name.rstrip("_").replace("_", "-"): printable(str(value))
            for name, value in attributes.items()
            if value is not None
        },
    )
    last: Element | None = None
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif last is None:
            made.text = (made.text or "") + printable(child)
        else:
            last.tail = (last.tail or "") + printable(child)
    return made


def raw(tag: str, text: str, **attributes: str) -> Element:
    """A `style` or `script`, whose text stands as it is: it must be ours."""
    made = Element(tag, attributes)
    made.text = text
    return made


def document(root: Element) -> str:
    """The whole page."""
    return f"<!DOCTYPE html>\n{tostring(root, encoding='unicode', method='html')}\n"
