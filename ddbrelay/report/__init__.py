"""A consumer's ledger over a period: its numbers, and the page that shows them."""
