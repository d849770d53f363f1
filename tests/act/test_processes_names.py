"""Signals by name, as rules write them."""

from __future__ import annotations

import signal

import pytest

from oomguard.act.processes import signal_number
from oomguard.decide.rule_parts import SIGNALS


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_that_rules_may_name_is_known(name: str) -> None:
    """What the loader accepts, the helper can send."""
    assert 0 < signal_number(name) <= signal.SIGRTMAX


@pytest.mark.parametrize("name", ["SIGNAL", "SIG_IGN", "USR1", "SIGRTMIN+99", "SIGRTMIN+x", ""])
def test_other_words_are_no_signals(name: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="not a signal"):
        signal_number(name)
