"""A skipped test that tests/skips.txt does not list is a failure under --strict-skips."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def house(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text("utf-8"))
    pytester.makepyfile(
        test_some="""
        import pytest

        def test_needs_a_thing():
            pytest.skip("the thing is missing")

        @pytest.mark.xfail(reason="known")
        def test_known():
            assert False
        """
    )
    return pytester


def test_unlisted_skip_fails_with_its_reason(house: pytest.Pytester) -> None:
    (house.path / "skips.txt").write_text("# nothing\n")

    result = house.runpytest_inprocess("--strict-skips", "-p", "no:randomly")

    result.assert_outcomes(failed=1, xfailed=1)
    result.stdout.fnmatch_lines(["*the thing is missing*"])


def test_listed_skip_and_an_ordinary_run_pass(house: pytest.Pytester) -> None:
    (house.path / "skips.txt").write_text("test_some.py::test_needs # no thing on this machine\n")

    house.runpytest_inprocess("--strict-skips").assert_outcomes(skipped=1, xfailed=1)
    (house.path / "skips.txt").write_text("")
    house.runpytest_inprocess().assert_outcomes(skipped=1, xfailed=1)


def test_skip_of_a_whole_module_counts(house: pytest.Pytester) -> None:
    (house.path / "skips.txt").write_text("test_some.py # elsewhere\n")
    house.makepyfile(test_module='import pytest\npytest.skip("gone", allow_module_level=True)')

    result = house.runpytest_inprocess("--strict-skips")

    result.assert_outcomes(errors=1)


def test_entry_without_a_reason_is_refused(house: pytest.Pytester) -> None:
    (house.path / "skips.txt").write_text("test_some.py::test_needs\n")

    result = house.runpytest_inprocess("--strict-skips")

    assert result.ret != 0
