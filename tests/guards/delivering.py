"""Guards of the way from the records to the bus, and of what is kept."""

from __future__ import annotations

from guards.guard import Guard

CHANGE = "ddbrelay/flow/change/change.py"
ATTRIBUTES = "ddbrelay/flow/change/attributes.py"
PACKING = "ddbrelay/flow/packing.py"
SINK = "ddbrelay/flow/sink.py"
FRONTIER = "ddbrelay/flow/tracking/frontier.py"
DELIVERY = "ddbrelay/relay/delivery.py"
DISPATCH = "ddbrelay/relay/dispatch.py"
OWNERSHIP = "ddbrelay/stores/ownership.py"
STORE = "ddbrelay/stores/sqlite.py"
BUS = "ddbrelay/aws/bus.py"

DELIVERING = [
    Guard(
        "a gap counts only behind the records that were read before it",
        FRONTIER,
        "        self._open.append(Ticket(self, gap=gap, settled=True))\n",
        "        self._open.appendleft(Ticket(self, gap=gap, settled=True))\n",
        "tests/test_tracking.py",
        6,
    ),
    Guard(
        "the frontier passes no unsettled record",
        FRONTIER,
        "        while waiting and waiting[0].settled:\n",
        "        while waiting:\n",
        "tests/test_tracking.py",
        8,
    ),
    Guard(
        "a dead letter is durable before its record counts as settled",
        DELIVERY,
        "            freed_letters = await self._store.park([self._dead_letter(one) for one in letters])\n",
        "            freed_letters = []\n",
        "tests/test_engine.py",
        8,
    ),
    Guard(
        "an iterator is stored only behind a page that is settled whole",
        FRONTIER,
        "            tickets[-1].iterator, tickets[-1].iterator_at = page.next_iterator, now\n",
        "            for one in tickets:\n"
        "                one.iterator, one.iterator_at = page.next_iterator, now\n",
        "tests/test_tracking.py",
        8,
    ),
    Guard(
        "a second live owner is refused",
        OWNERSHIP,
        "                if row is not None and self._lives(row, locked=True):\n",
        "                if False:\n",
        "tests/test_store.py",
        9,
    ),
    Guard(
        "the lock file says who lives",
        OWNERSHIP,
        "            taken = self._alive is None or self._alive.take()\n",
        "            taken = self._alive is None or self._alive.take() is not None\n",
        "tests/test_store.py",
        9,
    ),
    Guard(
        "a run that was fenced out moves no checkpoint",
        OWNERSHIP,
        "            if cursor.rowcount == 1:\n                return\n",
        "            return\n",
        "tests/test_store.py",
        9,
    ),
    Guard(
        "checkpoints are kept by stream and shard, not by shard alone",
        STORE,
        "        self._of = (consumer, stream_arn)\n",
        '        self._of = (consumer, "")\n',
        "tests/test_store.py",
        9,
    ),
    Guard(
        "only failed entries are sent again",
        DISPATCH,
        "        if receipt.retry:\n            self._retry(receipt.retry)\n",
        "        if receipt.retry:\n            pass\n",
        "tests/test_engine.py",
        10,
    ),
    Guard(
        "a code that is not final is tried again",
        SINK,
        "        elif result.code in FINAL_CODES:\n",
        "        elif result.code is not None:\n",
        "tests/test_sink.py",
        10,
    ),
    Guard(
        "sending again waits longer and longer",
        SINK,
        "    return rng.uniform(0.0, min(cap, base * 2.0 ** min(attempt, 30)))\n",
        "    return 0.0\n",
        "tests/test_engine.py",
        10,
    ),
    Guard(
        "a request stays below one megabyte",
        PACKING,
        "            if taken and size + item.size >= self._max_bytes:\n                break\n",
        "",
        "tests/test_packing.py",
        11,
    ),
    Guard(
        "an oversize event is parked before it is sent",
        DELIVERY,
        "        if size >= MAX_BYTES:\n",
        "        if False:\n",
        "tests/test_engine.py",
        11,
    ),
    Guard(
        "later events of a parked item queue up behind it",
        DELIVERY,
        "        if key in self._parked:\n            item = None",
        "        if False:\n            item = None",
        "tests/test_engine.py",
        13,
    ),
    Guard(
        "events that wait behind one that is refused are parked with it",
        DELIVERY,
        "        for one in later:\n            waits",
        "        for one in ():\n            waits",
        "tests/test_engine.py",
        13,
    ),
    Guard(
        "items with dead letters stay parked in the next run",
        DELIVERY,
        "            self._parked = await self._store.parked_keys()\n",
        "            pass\n",
        "tests/test_engine.py",
        13,
    ),
    Guard(
        "a delete by Time to Live is told apart",
        CHANGE,
        "            by is not None\n",
        "            False and by is not None\n",
        "tests/test_change.py",
        15,
    ),
    Guard(
        "numbers keep every digit",
        ATTRIBUTES,
        "    return _raw(text.encode())\n",
        "    return _raw(repr(float(text)).encode())\n",
        "tests/test_change.py",
        16,
    ),
    Guard(
        "integers beyond 64 bits become text",
        ATTRIBUTES,
        "            return integer if integer in _INT64 and str(integer) == text else Decimal(text)\n",
        "            return integer\n",
        "tests/test_change.py",
        16,
    ),
    Guard(
        "binary keys are told apart",
        CHANGE,
        "                self._item_key = raw\n",
        "                self._item_key = b'' if b'B' in raw else raw\n",
        "tests/test_change.py",
        17,
    ),
    Guard(
        "a skip publishes nothing",
        DELIVERY,
        "            self._settle(Outcome(change, None, Fate.SKIPPED, None, reason), ticket)\n",
        "            self._queue(change, key, Event('x', 'y', b'{}'), ticket)\n",
        "tests/test_engine.py",
        18,
    ),
    Guard(
        "sequence numbers are compared as integers",
        "ddbrelay/stores/ledger.py",
        "key=lambda block: int(block.first)",
        "key=lambda block: block.first",
        "tests/test_store.py",
        19,
    ),
    Guard(
        "two events of an item are never in flight together",
        PACKING,
        "        if last is None:\n",
        "        if True:\n",
        "tests/test_packing.py",
    ),
    Guard(
        "an event that failed goes before later ones of its item",
        PACKING,
        "        self._ready.appendleft(item)\n",
        "        self.release(item)\n        self.add(item)\n",
        "tests/test_packing.py",
    ),
    Guard(
        "a lost answer is sent again",
        BUS,
        "            return Receipt(retry=[(item, str(error)) for item in items], crowded=True)\n"
        "        except WireError",
        "            return Receipt(accepted=[(item, '') for item in items])\n"
        "        except WireError",
        "tests/test_conformance.py",
    ),
    Guard(
        "readers wait while too much is held",
        DELIVERY,
        "        return self.pending < options.max_pending and self._held < options.max_held\n",
        "        return True\n",
        "tests/test_engine.py",
    ),
    Guard(
        "pages that unsettled records hold are counted by their bytes",
        DELIVERY,
        "        return self.pending < options.max_pending and self._held < options.max_held\n",
        "        return self.pending < options.max_pending\n",
        "tests/test_wide.py",
    ),
    Guard(
        "the ledger is saved with the checkpoint",
        STORE,
        "            cursor.executemany(_SAVE, self._rows(positions))\n"
        "            ledger.add(cursor, self._of, accounts, self._now())\n",
        "            cursor.executemany(_SAVE, self._rows(positions))\n",
        "tests/test_store.py",
    ),
    Guard(
        "a bus that is gone parks nothing",
        BUS,
        "            return Receipt(retry=again, held=gone)\n",
        "            return Receipt(rejected=again)\n",
        "tests/test_bus.py",
        13,
    ),
    Guard(
        "nothing is sent while the bus takes nothing",
        DISPATCH,
        "        if self._closed or self._tasks.failed or self.held is not None:\n",
        "        if self._closed or self._tasks.failed:\n",
        "tests/test_dispatch.py",
    ),
    Guard(
        "a bus that takes nothing is looked at again",
        DISPATCH,
        "        self.held = reason\n        self._probe_later()\n",
        "        self.held = reason\n",
        "tests/test_dispatch.py",
    ),
    Guard(
        "a bus that denies everything ends the run instead of parking it",
        BUS,
        "            if any(result.code not in DENIED_CODES for result in said):\n",
        "            if True:\n",
        "tests/test_bus.py",
    ),
    Guard(
        "throttling makes fewer requests fly together",
        "ddbrelay/relay/window.py",
        "            self._size = max(1.0, self._size / 2)\n",
        "            pass\n",
        "tests/test_dispatch.py",
        10,
    ),
    Guard(
        "a few events wait for company",
        DISPATCH,
        "            if little and not everything and self._options.linger > 0:\n",
        "            if False:\n",
        "tests/test_dispatch.py",
    ),
    Guard(
        "pages that were asked for are counted before they come",
        "ddbrelay/relay/reading.py",
        "        self._delivery.reserve(expected)\n",
        "        expected = 0\n",
        "tests/test_dispatch.py",
    ),
    Guard(
        "a detail is in S3 before its event is sent",
        "ddbrelay/aws/claims.py",
        "        failed = await self._write(items)\n",
        "        failed: dict[int, str] = {}\n",
        "tests/test_claims.py",
        11,
    ),
    Guard(
        "a dead letter keeps the detail that was to go to S3",
        PACKING,
        "            return (msgspec.structs.replace(self.event, detail=claim.body),)\n",
        "            return (self.event,)\n",
        "tests/test_engine.py",
    ),
    Guard(
        "all events of a record go before the next record of its item",
        DISPATCH,
        "                    self._packer.again(item)\n                else:\n",
        "                    self._packer.release(item)\n"
        "                    self._packer.add(item)\n"
        "                else:\n",
        "tests/test_several.py",
    ),
    Guard(
        "a record is settled by the last of its events",
        DELIVERY,
        "            event, ticket, more = item.event, item.ticket, len(item.rest)\n",
        "            event, ticket, more = item.event, item.ticket, 0\n",
        "tests/test_several.py",
    ),
    Guard(
        "a dead letter keeps the events that are left",
        PACKING,
        "            left.append(event if sent <= 0 else None)\n",
        "            left.append(event if sent == 0 else None)\n",
        "tests/test_several.py",
    ),
    Guard(
        "a dead letter keeps no event that was accepted",
        DELIVERY,
        "            events = letter.item.left\n",
        "            events = letter.whole or letter.item.left\n",
        "tests/test_several.py",
    ),
    Guard(
        "nothing of a record is sent when one of its events fits no request",
        PACKING,
        "            if fitting is None:\n                return event\n",
        "            if fitting is None:\n                continue\n",
        "tests/test_several.py",
    ),
    Guard(
        "a redrive keeps no event that was accepted",
        "ddbrelay/relay/redrive.py",
        "        self._letters.keep((item.ticket.letter, stored_events(item.left)) "
        "for item in items)\n",
        "",
        "tests/test_several.py",
    ),
    Guard(
        "a change is redacted before anything of it is stored",
        DELIVERY,
        "        result = self._mapper(change)\n        try:\n"
        "            key = change.item_key\n        except UndecodableError as error:\n"
        "            self._park(Outcome(change, None, Fate.PARKED, None, str(error)), ticket)\n"
        "            return\n",
        "        try:\n"
        "            key = change.item_key\n        except UndecodableError as error:\n"
        "            self._park(Outcome(change, None, Fate.PARKED, None, str(error)), ticket)\n"
        "            return\n        result = self._mapper(change)\n",
        "tests/test_several.py",
    ),
    Guard(
        "another bus that is missing does not spoil the requests of the others",
        BUS,
        "        self._missing.add(bus)\n",
        "",
        "tests/test_bus.py",
    ),
    Guard(
        "the bus of the run comes first, so that nothing goes while it is missing",
        BUS,
        "key=lambda part: part is not parts.get(None)",
        "key=lambda part: part is parts.get(None)",
        "tests/test_bus.py",
    ),
    Guard(
        "what was accepted is told before a refusal ends the run",
        BUS,
        "                if not whole.accepted:\n                    raise\n",
        "                raise\n",
        "tests/test_bus.py",
    ),
    Guard(
        "only the bus of the run says that it takes events again",
        DISPATCH,
        "not receipt.crowded and _from_own_bus(receipt)",
        "not receipt.crowded",
        "tests/test_dispatch.py",
    ),
    Guard(
        "an item whose letters are gone flows again",
        DELIVERY,
        "            if (change.shard_id, change.sequence_number) in freed:\n",
        "            if False:\n",
        "tests/test_redrive.py",
        14,
    ),
    Guard(
        "letters that would wait behind nothing are not kept",
        "ddbrelay/stores/parking.py",
        "            freed.add(one.item_key)\n            returned.append(one)\n"
        "            continue\n",
        "            freed.add(one.item_key)\n",
        "tests/test_store.py",
        14,
    ),
]
