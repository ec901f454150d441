"""Ctrl-C as a terminal would send it: `make test &` hung where a test interrupts a program of its own.

A shell starts what runs in the background with SIGINT ignored, and every process below inherits that.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
