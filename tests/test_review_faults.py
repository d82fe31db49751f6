"""No confirmed edit is lost: random histories of a reviewer, of kills and failures, and of another program."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from faulty_system import KINDS, Faults
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from review_world import CHANGES, World

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) else None
"""Where a folder is on no disk, so that nothing waits for one."""

steps = st.integers(0, 9)
faults = st.builds(Faults) | st.builds(
    Faults, st.sampled_from([kind for kind in KINDS if kind != "interference"]), steps
)
running = precondition(lambda machine: machine.world.document is not None)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.world = World(self.folder)

    @running
    @rule(place=st.integers(0, 2), kind=st.sampled_from(["new", "done", "accept", "reject"]), faults=faults)
    def edit(self, place: int, kind: str, faults: Faults) -> None:
        self.world.edit(place, kind, faults)

    @running
    @rule(place=st.integers(0, 2), kind=st.sampled_from(["undo", "redo"]), faults=faults)
    def go(self, place: int, kind: str, faults: Faults) -> None:
        self.world.edit(place, kind, faults)

    @running
    @rule(
        faults=faults | st.builds(Faults, st.just("interference"), steps),
        elsewhere=st.sampled_from([False] * 4 + [True]),
    )
    def save(self, faults: Faults, elsewhere: bool) -> None:
        self.world.save(faults, f"g{self.world.count}.jsonl" if elsewhere else None)

    @running
    @rule(faults=faults)
    def reload(self, faults: Faults) -> None:
        self.world.reload(faults)

    @running
    @rule()
    def kill(self) -> None:
        self.world.kill()

    @running
    @rule()
    def stop(self) -> None:
        self.world.stop()

    @precondition(lambda machine: machine.world.document is None)
    @rule(faults=faults)
    def restart(self, faults: Faults) -> None:
        self.world.restart(faults)

    @rule(kind=st.sampled_from(CHANGES), place=st.integers(0, 7))
    def change(self, kind: str, place: int) -> None:
        self.world.change(kind, place)

    def teardown(self) -> None:
        try:
            self.world.end()
        finally:
            shutil.rmtree(self.folder)


Histories.TestCase.settings = settings(
    max_examples=200, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
