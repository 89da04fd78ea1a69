"""The lab itself: where nothing is struck all is well, and the oracle has looked."""

from __future__ import annotations

from tests.faults.lab import Lab


def test_without_a_fault_all_is_well(lab: Lab) -> None:
    scene = lab.scene("calm")
    for number in range(4):
        scene.push(f"app:v{number}")
    scene.push("other:v1")

    assert scene.run()["state"] == "succeeded"
    verdict = scene.verdict(tags=5, blobs=15)
    assert verdict.faults == [], str(verdict)
    assert len(scene.tag_puts("app:v1")) == 1
