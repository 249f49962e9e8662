"""Counts named checks and prints them as they are made; the last line is `N passed, N failed`."""

import asyncio
import sys
import traceback

CHECK_SECONDS = 60


class Tally:
    """The sum of one program's checks."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    async def check(self, name, body):
        """Awaits one named check; an exception is a failure that does not stop the others."""
        try:
            await asyncio.wait_for(body, CHECK_SECONDS)
        except Exception:
            self.failed += 1
            print(f"FAILED  {name}: {traceback.format_exc()}", flush=True)
        else:
            self.passed += 1
            print(f"ok      {name}", flush=True)

    def finish(self):
        """Prints the sum and ends the program: 0 if every check passed and there was one."""
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed or not self.passed else 0)
