"""Simulated days: the whole engine on a virtual clock, with whatever can go wrong, by seeds.

`plan` draws from a seed what a day will be like, `day` plays it, `ports` watches the engine while
it plays, `invariants` says what must hold, `runner` plays many days on all processors.
"""
