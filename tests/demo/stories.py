"""Two stories to tell of: the usual end of a demo."""

from oomguard.demo.story import Spoken, Story

LIMIT_BYTES = 96 << 20
MIB = 1 << 20


def unguarded() -> Story:
    """Killed by the kernel after 55 s."""
    story = Story("unguarded", LIMIT_BYTES, started_s=1000.0, pid=5)
    story.used = [(t_s, (9 + 87 * t_s / 55) * MIB) for t_s in range(1, 56)]
    story.figures = {"hits": 70, "misses": 30, "cache_bytes": 40 * MIB, "leak_bytes": 40 * MIB}
    story.ended, story.killer, story.exit_code, story.survived_s, story.oom_kills = "oom", "kernel", -9, 55.0, 1
    return story


def guarded() -> Story:
    """Alive after 90 s, by two evictions."""
    story = Story("guarded", LIMIT_BYTES, started_s=1000.5, pid=6)
    story.used = [(t_s, (9 + 60 * t_s / 90) * MIB) for t_s in range(1, 91)]
    story.figures = {"hits": 65, "misses": 35, "cache_bytes": 8 * MIB, "leak_bytes": 60 * MIB}
    story.levels = [Spoken(30.0, 4, "forest"), Spoken(50.0, 0, "forest"), Spoken(70.0, 3, "plain")]
    story.evictions = [(32.0, 20 * MIB), (62.0, 5 * MIB)]
    story.ended, story.exit_code, story.survived_s, story.oom_kills = "exit", 0, 90.0, 0
    return story
