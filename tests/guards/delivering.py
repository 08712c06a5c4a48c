"""Guards of the way from the records to the bus, and of what is kept."""

from __future__ import annotations

from guards.guard import Guard

CHANGE = "ddbrelay/flow/change.py"
PACKING = "ddbrelay/flow/packing.py"
SINK = "ddbrelay/flow/sink.py"
FRONTIER = "ddbrelay/flow/tracking/frontier.py"
DELIVERY = "ddbrelay/relay/delivery.py"
OWNERSHIP = "ddbrelay/stores/ownership.py"
STORE = "ddbrelay/stores/sqlite.py"
BUS = "ddbrelay/aws/bus.py"

DELIVERING = [
    Guard(
        "a gap counts only behind the records that were read before it",
        FRONTIER,
        "        self._open.append(Ticket(self, settled=True, gap=gap))\n",
        "        self._open.appendleft(Ticket(self, settled=True, gap=gap))\n",
        "tests/test_tracking.py",
        6,
    ),
    Guard(
        "the frontier passes no unsettled record",
        FRONTIER,
        "        while self._open and self._open[0].settled:\n",
        "        while self._open:\n",
        "tests/test_tracking.py",
        8,
    ),
    Guard(
        "a dead letter is durable before its record counts as settled",
        DELIVERY,
        "            await self._store.park([self._letter(outcome) for outcome, _ in letters])\n",
        "            pass\n",
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
        "        if self._alive is not None and not self._alive.take():\n",
        "        if self._alive is not None and self._alive.take() is None:\n",
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
        DELIVERY,
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
        "            if taken and size >= self._max_bytes:\n                break\n",
        "",
        "tests/test_packing.py",
        11,
    ),
    Guard(
        "an oversize event is parked before it is sent",
        DELIVERY,
        "        if event is not None and oversize(event):\n",
        "        if False:\n",
        "tests/test_engine.py",
        11,
    ),
    Guard(
        "later events of a parked item queue up behind it",
        DELIVERY,
        "        if key in self._parked:\n            reason = _BEHIND\n",
        "",
        "tests/test_engine.py",
        13,
    ),
    Guard(
        "events that wait behind one that is refused are parked with it",
        DELIVERY,
        "        for later in self._packer.withdraw(item.key):\n",
        "        for later in ():\n",
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
        CHANGE,
        "    return msgspec.Raw(text.encode())\n",
        "    return msgspec.Raw(repr(float(text)).encode())\n",
        "tests/test_change.py",
        16,
    ),
    Guard(
        "integers beyond 64 bits become text",
        CHANGE,
        "        return integer if integer in _INT64 and str(integer) == text else text\n",
        "        return integer\n",
        "tests/test_change.py",
        16,
    ),
    Guard(
        "binary keys are told apart",
        CHANGE,
        "        return msgspec.json.encode(self.typed_keys)\n",
        "        return msgspec.json.encode(\n"
        '            {k: "B" if "B" in v else v for k, v in self.typed_keys.items()}\n        )\n',
        "tests/test_change.py",
        17,
    ),
    Guard(
        "a skip publishes nothing",
        DELIVERY,
        "            self._settle(Outcome(change, None, Fate.SKIPPED, reason=result.reason), ticket)\n"
        "            return\n",
        "            result = Event('x', 'y', b'{}')\n",
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
        "        queue = self._queues.get(item.key)\n        if queue is None:\n",
        "        queue = self._queues.get(item.key)\n        if not queue:\n",
        "tests/test_packing.py",
    ),
    Guard(
        "an event that failed goes before later ones of its item",
        PACKING,
        "        self._queues[item.key].appendleft(item)\n",
        "        self._queues[item.key].append(item)\n",
        "tests/test_packing.py",
    ),
    Guard(
        "a lost answer is sent again",
        BUS,
        "            return Receipt(retry=[(item, str(error)) for item in items])\n"
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
]
