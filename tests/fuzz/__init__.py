"""Fuzzing: files and texts from strangers are read, or refused with one line, in bounded time and memory."""

import os

# Arrow's own allocator reserves a gigabyte at its first use, which would hide what a case takes
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
