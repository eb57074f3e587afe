"""CPU time of a process tree: what it starts counts, what waits does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reelsight.capacity.cpu_time import tree_cpu_s

BURN = """
import time
while time.process_time() < 0.5: pass
print("burnt", flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_children_count_and_waiting_does_not() -> None:
    pipe = subprocess.PIPE
    before = tree_cpu_s()
    with subprocess.Popen(
        [sys.executable, "-c", BURN], stdin=pipe, stdout=pipe, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "burnt\n"
        after = tree_cpu_s()
        child.communicate("\n")
    assert before is not None
    assert after is not None
    # A tick early or late, and what this process did itself.
    assert 0.48 <= after - before < 5.0
