"""Fuzzing: untrusted files and texts are read, or refused in one line, in bounded time and memory."""

import os

# Arrow's own allocator reserves a gigabyte at its first use, which would hide the memory that a case takes
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
