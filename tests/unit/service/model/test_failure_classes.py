"""The words of failure classes: every class that an error may have is told of, with what mends it."""

from __future__ import annotations

from service import errors
from service.model.failure_classes import CLASSES, words
from service.replication import verify
from service.replication.report import RETRYABLE


def classes(base: type[errors.TransshipError]) -> set[str]:
    own = {base.failure_class} if isinstance(base.failure_class, str) else set()
    return own.union(*(classes(one) for one in base.__subclasses__()))


def test_every_class_has_words() -> None:
    wanted = classes(errors.TransshipError) | set(verify.FINDINGS) | set(RETRYABLE) | {"conflict"}

    assert len(wanted) > 12
    assert wanted <= set(CLASSES)
    for name, told in CLASSES.items():
        assert told.meaning, name
        assert told.fix, name
        assert not told.fix.endswith("."), name
    assert words("of a later version").fix
