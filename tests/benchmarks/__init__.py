"""How fast changes get from GetRecords to PutEvents, beside what one would write by hand.

    python -m tests.benchmarks                    a grid of some minutes
    python -m tests.benchmarks --full             every latency, number of shards and size of items
    python -m tests.benchmarks --latency 10 --shards 8 --items 0.3 --variants b,d,e
    python -m tests.benchmarks --latency-test     from the write to the accepted event, at low load
    python -m tests.benchmarks --backlog 1000000  peak memory with so many records behind

Run by hand. The times mean nothing while something else keeps the cores busy.
"""
