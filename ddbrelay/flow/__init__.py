"""The path of a record, one file per station, in travel order: pure, no I/O, no clock."""
