"""Guards of the mapping: which event a change becomes, and what nobody may see of it."""

from __future__ import annotations

from guards.guard import Guard

RULES = "ddbrelay/flow/mapping/rules.py"
CHANGE = "ddbrelay/flow/change/change.py"

MAPPING = [
    Guard(
        "the first rule that matches ends the search",
        RULES,
        "            matched.append(rule)\n            if not rule.goes_on:\n                break\n",
        "            matched.append(rule)\n",
        "tests/test_rules.py",
    ),
    Guard(
        "of the events of a change all go or none",
        RULES,
        "                # All events of a change go, or none of them.\n                return result\n",
        "                continue\n",
        "tests/test_rules.py",
    ),
    Guard(
        "what is skipped is redacted too",
        RULES,
        "        self._hide(change, matched if skipped is None else [*matched, skipped])\n",
        "        self._hide(change, matched) if matched else None\n",
        "tests/test_rules.py",
    ),
    Guard(
        "a change that is mapped again is seen whole again",
        RULES,
        "    def __call__(self, change: Change) -> Mapped:\n        change.reveal()\n",
        "    def __call__(self, change: Change) -> Mapped:\n",
        "tests/test_rules.py",
    ),
    Guard(
        "explanations do not show what is redacted",
        RULES,
        "    told = TypedDocument(shown) if rule.lambda_form else Document(shown)\n",
        "    told = judged\n",
        "tests/test_redaction.py",
    ),
    Guard(
        "an image that cannot be read is left out where something of it is redacted",
        CHANGE,
        "                images[name] = msgspec.UNSET\n",
        "                images[name] = getattr(record.dynamodb, name)\n",
        "tests/test_redaction.py",
    ),
    Guard(
        "what differed is told from the images as they were written",
        CHANGE,
        "        record = self._whole or self.record\n        old = ",
        "        record = self.record\n        old = ",
        "tests/test_redaction.py",
    ),
    Guard(
        "events of one aggregate follow one another",
        "ddbrelay/flow/mapping/presets.py",
        "            self.follow_aggregate(change)\n",
        "",
        "tests/test_presets.py",
    ),
    Guard(
        "a later event of a change has an id of its own",
        "ddbrelay/flow/mapping/events.py",
        '    return event_id if place == 0 else f"{event_id}.{rule or place + 1}"\n',
        "    return event_id\n",
        "tests/test_rules.py",
    ),
    Guard(
        "half a surrogate pair spoils one image and not its page",
        "ddbrelay/flow/change/records.py",
        "        return decoder.decode(_mended(body, note))\n",
        "        raise\n",
        "tests/test_change.py",
    ),
    Guard(
        "a detail type over 128 characters is refused (templates)",
        "ddbrelay/flow/mapping/making.py",
        "        if never := refused(event):\n            raise EvaluationError(never.reason)\n",
        "",
        "tests/test_rules.py",
        12,
    ),
    Guard(
        "an integer that PutEvents refuses becomes text",
        "ddbrelay/flow/mapping/making.py",
        "            detail = small_integers(encode(value))\n",
        "            detail = encode(value)\n",
        "tests/test_rules.py",
    ),
    Guard(
        "only what the outbox preset made is tidied",
        "ddbrelay/aws/sweeping.py",
        "            if inserted and not item.rest and item.event.rule == OUTBOX_RULE:\n",
        "            if inserted and not item.rest:\n",
        "tests/test_sweeping.py",
    ),
    Guard(
        "what was redacted is not forgotten when it is mapped again",
        "ddbrelay/relay/letters.py",
        "            if _HIDDEN in stored.record:\n",
        "            if False:\n",
        "tests/test_letters.py",
    ),
    Guard(
        "a letter stands in the line in which it was parked",
        "ddbrelay/relay/letters.py",
        "        change.order_by(letter.item_key)\n",
        "",
        "tests/test_letters.py",
    ),
    Guard(
        "an object inside an array is compared whole",
        "ddbrelay/flow/mapping/patterns.py",
        "            return any(map(inner, _candidates(node, value, without)))\n",
        "            return bool(value)\n",
        "tests/test_patterns.py",
    ),
]
