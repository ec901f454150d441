"""`python -m tests.broken`: writes the broken statements anew from the real ones."""

from tests.broken.faults import write_all

write_all()
